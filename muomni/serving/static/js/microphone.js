// The microphone: blocks of samples at one rate; and how its level is shown.

import { level } from "./pcm.js";

export class Microphone {
  constructor({ rate, onBlock }) {
    this.rate = rate;
    this.onBlock = onBlock;
  }

  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("no microphone here: browsers allow it on https or localhost only");
    }
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
    this.context = new AudioContext({ sampleRate: this.rate });  // the browser resamples
    await this.context.audioWorklet.addModule("/page/js/recorder_worklet.js");
    this.node = new AudioWorkletNode(this.context, "recorder", { numberOfInputs: 1, numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.onBlock(data);
    this.context.createMediaStreamSource(this.stream).connect(this.node);
    await this.context.resume();
  }

  async stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.node?.port.close();
    await this.context?.close();
    this.stream = this.node = this.context = undefined;
  }
}

// Shows that the microphone is on, and how loud it is. text: before the meter.
export function showListening(text) {
  document.getElementById("listening").hidden = text === undefined;
  document.getElementById("listening-text").textContent = text ?? "";
  if (text === undefined) showLevel();
}

export function showLevel(samples) {
  const value = samples ? level(samples) : 0;
  document.getElementById("level").setAttribute("aria-valuenow", String(value));
  document.getElementById("level-bar").style.width = `${value}%`;
}
