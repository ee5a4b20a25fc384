// Hands-free: the microphone goes to /v1/realtime all the time; the server finds the turns, answers, and stops when one speaks.

import { AnswerAnnouncer } from "./announce.js";
import * as api from "./api.js";
import { toRealtimeContent, toRealtimeItems } from "./history.js";
import { Microphone, showLevel, showListening } from "./microphone.js";
import { fromBase64, join, toBase64, toFloat, toPcm16 } from "./pcm.js";
import { Player } from "./player.js";
import { SamplesRing } from "./samples_ring.js";
import { instructions, voice } from "./settings.js";
import { silence } from "./sound.js";
import { addError, addMessage, status } from "./view.js";

const RATE = 24000;
const KEPT = 60;  // seconds of the microphone, for the spectrogram of a turn
const NOTES = { cancelled: "stopped", incomplete: "cut off", failed: "failed" };

export class HandsFree {
  // conversation: whose exchanges are taken over and added to.
  constructor({ model, speaks, conversation }) {
    Object.assign(this, { model, speaks, conversation });
    this.player = new Player(RATE);
    this.button = document.getElementById("hands-free");
    this.button.addEventListener("click", () => (this.active ? this.end() : this.begin()));
  }

  get active() { return this.socket !== undefined; }

  begin() {
    this.conversation.stop();
    this.player.prepare();
    this.turns = new Map();  // the user's, by item
    this.heard = new SamplesRing(KEPT * RATE);
    this.starts = new Map();
    this.spoken = this.speaks();
    const socket = (this.socket = api.realtimeSocket(this.model));
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = ({ reason }) => this.end(reason || "the server has ended hands-free", { error: true });
    socket.onopen = () => this.opened();
    this.button.setAttribute("aria-pressed", "true");
    showListening("Connecting");
  }

  async opened() {
    this.send({ type: "session.update", session: {
      type: "realtime", instructions: instructions(), output_modalities: [this.spoken ? "audio" : "text"],
      audio: { input: { transcription: { model: this.model } }, output: { voice: voice() || "0" } },
    } });
    for (const item of toRealtimeItems(this.conversation.exchanges)) this.send({ type: "conversation.item.create", item });
    const microphone = (this.microphone = new Microphone({ rate: RATE, onBlock: (samples) => this.hear(samples) }));
    try {
      await microphone.start();
    } catch (error) {
      return this.end(`no microphone: ${error.message}`, { error: true });
    }
    if (this.microphone !== microphone) return microphone.stop();  // ended while the browser asked for permission
    showListening("Listening");
    return status(this.spoken ? "Speak; you may interrupt the answer." : "Speak. Answers are written: switch on “Speak answers” to listen.");
  }

  hear(samples) {
    showLevel(samples);
    const pcm = toPcm16(samples);
    this.heard.push(pcm);
    this.send({ type: "input_audio_buffer.append", audio: toBase64(new Uint8Array(pcm.buffer)) });
  }

  send(event) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(event));
  }

  async end(text = "", options = {}) {
    if (!this.socket) return;
    this.socket.onclose = null;
    this.socket.close();
    this.socket = undefined;
    this.quiet();
    this.answer?.view.busy(false);
    showListening(undefined);
    this.button.setAttribute("aria-pressed", "false");
    status(text, options);
    const microphone = this.microphone;
    this.microphone = undefined;
    await microphone?.stop();
  }

  // A question that was typed meanwhile.
  ask({ text, images }) {
    this.interrupt();
    if (this.answer) this.send({ type: "response.cancel" });
    addMessage("user", { images, text });
    const content = images.map((url) => ({ type: "image_url", image_url: { url } }));
    if (text) content.push({ type: "text", text });
    this.add({ content, answer: "" });
    this.send({ type: "conversation.item.create", item: { type: "message", role: "user", content: toRealtimeContent({ content }) } });
    this.send({ type: "response.create" });
  }

  add(exchange) {
    this.exchange = exchange;
    this.conversation.exchanges.push(exchange);
  }

  // Someone speaks or types: the answer is silent at once, and what comes of it later is not played.
  interrupt() {
    if (this.player.playing && this.item) {
      this.send({ type: "conversation.item.truncate", item_id: this.item, content_index: 0, audio_end_ms: Math.round(this.player.played) });
    }
    this.quiet();
  }

  quiet() {
    this.muted = true;
    this.player.stop();
    silence();
  }

  receive(event) {
    const handler = HANDLERS[event.type];
    if (handler) handler.call(this, event);
  }
}

const append = function ({ item_id: item, delta }) {
  this.item = item;
  this.answer.text += delta;
  this.answer.view.append(delta);
  this.answer.announcer?.push(delta);
};

const HANDLERS = {
  "input_audio_buffer.speech_started"({ item_id: item, audio_start_ms: start }) {
    this.interrupt();
    const view = addMessage("user");
    view.busy(true);
    this.turns.set(item, { view, heard: "", exchange: { content: [], answer: "" } });
    this.starts.set(item, start);
    showListening("Go on");
  },
  "input_audio_buffer.speech_stopped"({ item_id: item, audio_end_ms: end }) {
    const turn = this.turns.get(item);
    showListening("Thinking");
    if (!turn) return;
    const pcm = this.heard.slice(Math.round((this.starts.get(item) * RATE) / 1000), Math.round((end * RATE) / 1000));
    if (pcm.length) turn.view.addSound(pcm, RATE, "your recording");
    this.add(turn.exchange);
  },
  "conversation.item.input_audio_transcription.delta"({ item_id: item, delta }) {
    const turn = this.turns.get(item);
    if (!turn) return;
    turn.heard += delta;
    turn.view.addTranscript(turn.heard, []);
  },
  "conversation.item.input_audio_transcription.completed"({ item_id: item, transcript, words }) {
    const turn = this.turns.get(item);
    if (!turn) return;
    turn.view.busy(false);
    turn.view.addTranscript(transcript || "(no words)", words ?? []);
    if (transcript) turn.exchange.content.push({ type: "text", text: transcript });
  },
  "conversation.item.input_audio_transcription.failed"({ item_id: item, error }) {
    const turn = this.turns.get(item);
    turn?.view.busy(false);
    turn?.view.about(`no transcript: ${error.message}`);
  },
  "response.created"() {
    this.muted = false;
    const view = addMessage("assistant");
    view.busy(true);
    this.answer = { view, text: "", blocks: [], exchange: this.exchange, announcer: this.spoken ? undefined : new AnswerAnnouncer() };
    this.player.prepare();
  },
  "response.output_text.delta": append,
  "response.output_audio_transcript.delta": append,
  "response.output_audio.delta"({ delta }) {
    const pcm = fromBase64(delta);
    this.answer.blocks.push(pcm);
    if (!this.muted) this.player.play(toFloat(pcm));
  },
  "response.done"({ response: { status: how } }) {
    const { view, text, blocks, exchange, announcer } = this.answer;
    this.answer = undefined;
    view.busy(false);
    announcer?.end();
    if (!text.trim()) view.remove();
    if (NOTES[how]) view.about(NOTES[how]);
    if (blocks.length) view.addSound(join(blocks, Int16Array), RATE, "the answer");
    if (exchange && how !== "failed") exchange.answer = text.trim();
    if (this.active) showListening("Listening");
  },
  error({ error }) {
    if (error.code !== "response_cancel_not_active") addError(error.message);
  },
};
