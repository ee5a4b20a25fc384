// One conversation: what was said, and asking for the next answer.

import { AnswerAnnouncer } from "./announce.js";
import * as api from "./api.js";
import { countEarlier, toMessages } from "./history.js";
import { fromBase64, join, toBase64, toFloat, wavFile } from "./pcm.js";
import { Player } from "./player.js";
import { instructions, sampling, voice } from "./settings.js";
import { silence } from "./sound.js";
import { addError, addMessage, clearMessages, status } from "./view.js";

const SPOKEN_RATE = 24000;

export class Conversation {
  constructor({ model, speaks, onBusy, onKey }) {
    Object.assign(this, { model, speaks, onBusy, onKey });
    this.player = new Player(SPOKEN_RATE);
    this.exchanges = [];
  }

  clear() {
    this.stop();
    this.exchanges = [];
    clearMessages();
    status("");
  }

  // Ends writing and speaking at once.
  stop() {
    this.abort?.abort();
    this.player.stop();
    silence();
  }

  // text: string; images: data URLs; recording: {pcm, rate} or undefined.
  async ask({ text, images, recording }) {
    this.stop();
    if (this.speaks()) this.player.prepare();
    status("");
    const view = addMessage("user", { images, text });
    const content = images.map((url) => ({ type: "image_url", image_url: { url } }));
    const exchange = { content, answer: "" };
    this.exchanges.push(exchange);
    if (recording) content.push(await this.addRecording(recording, view, exchange));
    if (text) content.push({ type: "text", text });
    await this.answer(exchange);
  }

  async addRecording({ pcm, rate }, view, exchange) {
    const wav = wavFile(pcm, rate);
    view.addSound(pcm, rate, "your recording");
    api.transcribe(this.model, wav).then(
      ({ text, words }) => { exchange.transcript = text; view.addTranscript(text || "(no words)", words); },
      (error) => view.about(`no transcript: ${error.message}`),
    );
    return { type: "input_audio", input_audio: { data: toBase64(new Uint8Array(await wav.arrayBuffer())), format: "wav" } };
  }

  async answer(exchange) {
    const abort = (this.abort = new AbortController());
    const spoken = this.speaks();
    const answer = new StreamedAnswer(spoken ? this.player : undefined);
    this.onBusy(true);
    try {
      await this.receive(exchange, answer, { spoken, signal: abort.signal });
      answer.finish();
    } catch (error) {
      answer.breakOff();
      if (error.name !== "AbortError") this.failed(error, exchange, answer);
    } finally {
      answer.close();
      if (this.abort === abort) this.onBusy(false);
    }
    exchange.answer ||= answer.failed ? "" : answer.text.trim();
  }

  // Where the conversation does not fit the model's context, its oldest exchanges are left out.
  async receive(exchange, answer, { spoken, signal }) {
    const until = this.exchanges.slice(0, this.exchanges.indexOf(exchange) + 1);
    for (let skip = 0; ; skip++) {
      const messages = toMessages(until, { instructions: instructions(), skip });
      const body = { model: this.model, ...sampling(), messages };
      if (spoken) Object.assign(body, { modalities: ["text", "audio"], audio: { voice: voice(), format: "pcm16" } });
      try {
        for await (const chunk of api.chat(body, signal)) {
          signal.throwIfAborted();  // chunks that had arrived before
          answer.push(chunk);
        }
        if (skip) status("the beginning of this conversation no longer fits the model's context");
        return;
      } catch (error) {
        if (error.code !== "context_length_exceeded" || skip >= countEarlier(until)) throw error;
      }
    }
  }

  failed(error, exchange, answer) {
    answer.failed = true;
    if (error.status === 401) this.onKey();
    const wait = error.retryAfter ? `; free again in about ${error.retryAfter} s` : "";
    addError(`${error.message}${wait}`, () => {
      this.stop();
      answer.view.remove();
      this.exchanges = [...this.exchanges.filter((each) => each !== exchange), exchange];
      if (this.speaks()) this.player.prepare();
      this.answer(exchange);
    });
  }
}

// An answer while it comes: its text on the page and for screen readers, its sound to the player.
class StreamedAnswer {
  constructor(player) {
    this.player = player;
    this.announcer = player ? undefined : new AnswerAnnouncer();  // a spoken answer is not read out as well
    this.begun = performance.now();
    this.blocks = [];
    this.text = "";
    this.view = addMessage("assistant");
    this.view.busy(true);
  }

  push({ choices: [choice], usage }) {
    this.usage = usage ?? this.usage;
    if (!choice) return;
    this.finishReason = choice.finish_reason ?? this.finishReason;
    const piece = choice.delta.content ?? choice.delta.audio?.transcript;
    if (piece) {
      this.first ??= performance.now();
      this.text += piece;
      this.view.append(piece);
      this.announcer?.push(piece);
    }
    if (choice.delta.audio?.data) {
      const pcm = fromBase64(choice.delta.audio.data);
      this.blocks.push(pcm);
      this.player.play(toFloat(pcm));
    }
  }

  finish() {
    if (!this.text.trim()) this.view.text = "(the model says nothing)";
    this.view.about(this.report());
    this.announcer?.end();
  }

  // Stopped by the user or by an error: what has come stays on the page.
  breakOff() {
    this.announcer?.end();
    if (this.text.trim()) this.view.about("stopped");
    else this.view.remove();
  }

  close() {
    this.view.busy(false);
    if (this.blocks.length && this.view.item.isConnected) this.view.addSound(join(this.blocks, Int16Array), SPOKEN_RATE, "the answer");
  }

  report() {
    const { prompt_tokens: read, completion_tokens: all, completion_tokens_details: { audio_tokens: frames } } = this.usage;
    const wait = this.first ? ` · first text after ${Math.round(this.first - this.begun)} ms` : "";
    const cut = this.finishReason === "length" ? " · cut off at the longest answer" : "";
    return `${read} tokens in, ${all - frames} out${wait}${cut}`;
  }
}
