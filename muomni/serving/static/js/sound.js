// A sound in a message: its spectrogram, which is also where one seeks, and a button that plays it.

import { toFloat, wavFile } from "./pcm.js";
import { drawSpectrogram } from "./spectrogram.js";

const playing = new Set();

// No recorded sound goes on: another one begins, or someone speaks.
export function silence() {
  for (const audio of playing) audio.pause();
}

export class Sound {
  // pcm: Int16Array; label: whose it is, as "your recording".
  constructor(box, pcm, rate, label) {
    this.label = label;
    this.seconds = pcm.length / rate;
    box.replaceChildren(document.getElementById("sound").content.cloneNode(true));
    this.audio = box.querySelector("audio");
    this.audio.src = URL.createObjectURL(wavFile(pcm, rate));
    this.button = box.querySelector("button");
    this.position = box.querySelector("input");
    this.position.max = this.seconds.toFixed(2);
    this.position.setAttribute("aria-label", `Position in ${label}`);
    this.time = box.querySelector(".time");
    const canvas = box.querySelector("canvas");
    drawSpectrogram(canvas, toFloat(pcm), rate);
    canvas.setAttribute("aria-label", `spectrogram of ${label}, ${this.seconds.toFixed(1)} seconds`);
    this.connect();
    this.show();
  }

  connect() {
    this.button.addEventListener("click", () => (this.audio.paused ? this.play() : this.audio.pause()));
    this.position.addEventListener("input", () => { this.audio.currentTime = Number(this.position.value); this.show(); });
    for (const name of ["play", "pause", "ended"]) this.audio.addEventListener(name, () => this.show());
    this.audio.addEventListener("play", () => { playing.add(this.audio); this.follow(); });
    this.audio.addEventListener("pause", () => playing.delete(this.audio));
  }

  // from: seconds; without it, from where it stopped.
  play(from) {
    silence();
    if (from !== undefined) this.audio.currentTime = from;
    this.audio.play();
  }

  follow() {
    this.show();
    if (!this.audio.paused) requestAnimationFrame(() => this.follow());
  }

  show() {
    const { paused, currentTime, ended } = this.audio;
    const at = ended ? 0 : currentTime;
    this.button.querySelector("use").setAttribute("href", paused ? "#i-play" : "#i-pause");
    this.button.setAttribute("aria-label", `${paused ? "Play" : "Pause"} ${this.label}`);
    this.position.value = at;
    this.position.setAttribute("aria-valuetext", `${at.toFixed(1)} of ${this.seconds.toFixed(1)} seconds`);
    this.time.textContent = `${(paused && at === 0 ? this.seconds : at).toFixed(1)} s`;
    this.onPosition?.(paused ? undefined : at);
  }

  release() {
    this.audio.pause();
    URL.revokeObjectURL(this.audio.src);
  }
}
