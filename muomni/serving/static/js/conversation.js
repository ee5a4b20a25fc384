// One conversation: what was said, and asking for the next answer.

import * as api from "/page/js/api.js";
import { fromBase64, join, toBase64, toFloat, wavFile } from "/page/js/pcm.js";
import { Player } from "/page/js/player.js";
import { instructions, sampling, voice } from "/page/js/settings.js";
import { addMessage, clearMessages, status } from "/page/js/view.js";

const SPOKEN_RATE = 24000;

export class Conversation {
  constructor({ model, speaks, onBusy }) {
    this.model = model;
    this.speaks = speaks;
    this.onBusy = onBusy;
    this.player = new Player(SPOKEN_RATE);
    this.turns = [];
  }

  clear() {
    this.stop();
    this.turns = [];
    clearMessages();
    status("");
  }

  // Ends writing and speaking at once.
  stop() {
    this.abort?.abort();
    this.player.stop();
  }

  // text: string; images: data URLs; recording: {pcm, rate} or undefined.
  async ask({ text, images, recording }) {
    this.stop();
    const content = images.map((url) => ({ type: "image_url", image_url: { url } }));
    const view = addMessage("user", { images, text });
    if (recording) {
      const wav = wavFile(recording.pcm, recording.rate);
      view.addSound(recording.pcm, recording.rate, "your recording");
      const data = toBase64(new Uint8Array(await wav.arrayBuffer()));
      content.push({ type: "input_audio", input_audio: { data, format: "wav" } });
      api.transcribe(this.model, wav).then(
        (transcript) => { if (!view.text) view.text = transcript.text; view.addWords(transcript.words ?? []); },
        (error) => status(`no transcript: ${error.message}`, { error: true }),
      );
    }
    if (text) content.push({ type: "text", text });
    this.turns.push({ role: "user", content });
    await this.answer();
  }

  async answer() {
    const abort = (this.abort = new AbortController());
    const view = addMessage("assistant");
    const system = instructions();
    const body = {
      model: this.model, ...sampling(),
      messages: [...(system ? [{ role: "system", content: system }] : []), ...this.turns],
    };
    const spoken = this.speaks();
    if (spoken) Object.assign(body, { modalities: ["text", "audio"], audio: { voice: voice(), format: "pcm16" } });
    const begun = performance.now();
    const blocks = [];
    let first, usage, finish;
    this.onBusy(true);
    view.busy(true);
    this.player.next();
    try {
      for await (const chunk of api.chat(body, abort.signal)) {
        usage = chunk.usage ?? usage;
        const choice = chunk.choices[0];
        if (!choice) continue;
        finish = choice.finish_reason ?? finish;
        const piece = choice.delta.content ?? choice.delta.audio?.transcript;
        if (piece) {
          first ??= performance.now();
          view.append(piece);
        }
        if (choice.delta.audio?.data) {
          const pcm = fromBase64(choice.delta.audio.data);
          blocks.push(pcm);
          this.player.play(toFloat(pcm));
        }
      }
      status(this.report({ begun, first, usage, finish }));
    } catch (error) {
      if (error.name === "AbortError") {
        status("stopped");
      } else {
        this.turns.pop();
        const wait = error.retryAfter ? ` (try again in ${error.retryAfter} s)` : "";
        addMessage("error", { text: `${error.message}${wait}` });
      }
    } finally {
      view.busy(false);
      if (this.abort === abort) this.onBusy(false);
    }
    if (view.text.trim()) this.turns.push({ role: "assistant", content: view.text });
    else if (finish) view.text = "(no answer)";
    else if (this.turns.at(-1)?.role === "user") this.turns.pop();
    if (blocks.length) view.addSound(join(blocks, Int16Array), SPOKEN_RATE, "the answer");
  }

  report({ begun, first, usage, finish }) {
    if (!usage) return "";
    const seconds = (performance.now() - (first ?? begun)) / 1000;
    const cut = finish === "length" ? ", cut off" : "";
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    return `${usage.prompt_tokens} tokens read (${cached} of them known), first text after ${Math.round((first ?? begun) - begun)} ms, `
      + `${usage.completion_tokens} written${cut}, ${Math.round(usage.completion_tokens / Math.max(seconds, 0.001))} a second`;
  }
}
