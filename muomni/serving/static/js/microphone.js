// The microphone: blocks of samples at one rate, and their level.

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

// 0 to 100 for silence to full scale, by decibels.
export function level(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  return Math.max(0, Math.min(100, Math.round(100 + (100 / 60) * 10 * Math.log10(power + 1e-12))));
}
