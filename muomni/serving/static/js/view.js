// Messages on the page. Text is always set as text, never as HTML.

import { drawSpectrogram } from "/page/js/spectrogram.js";
import { toFloat, wavFile } from "/page/js/pcm.js";

const list = document.getElementById("messages");

export function addMessage(role, { images = [], text = "" } = {}) {
  document.getElementById("welcome").hidden = true;
  if (matchMedia("(max-width: 760px)").matches) document.getElementById("gallery-box").open = false;
  const item = document.getElementById("message").content.firstElementChild.cloneNode(true);
  item.classList.add(role);
  item.querySelector(".who").textContent = { user: "You", assistant: "muomni", error: "Error" }[role];
  for (const url of images) {
    const image = new Image();
    image.src = url;
    image.alt = "attached picture";
    item.querySelector(".media").append(image);
  }
  const view = new MessageView(item);
  view.text = text;
  list.append(item);
  item.scrollIntoView({ block: "end" });
  return view;
}

export function clearMessages() {
  list.replaceChildren();
  document.getElementById("welcome").hidden = false;
  document.getElementById("gallery-box").open = true;
}

class MessageView {
  constructor(item) {
    this.item = item;
    this.paragraph = item.querySelector(".text");
  }

  get text() { return this.paragraph.textContent; }

  set text(value) {
    this.paragraph.textContent = value;
    this.paragraph.hidden = !value;
  }

  append(piece) {
    this.text += piece;
    this.item.scrollIntoView({ block: "end" });
  }

  busy(is) { this.item.setAttribute("aria-busy", String(is)); }

  // PCM16 samples as a player with a spectrogram.
  addSound(pcm, rate, label) {
    const box = this.item.querySelector(".sound");
    const player = document.createElement("audio");
    player.controls = true;
    player.src = URL.createObjectURL(wavFile(pcm, rate));
    player.setAttribute("aria-label", label);
    const canvas = document.createElement("canvas");
    drawSpectrogram(canvas, toFloat(pcm), `spectrogram of ${label}, ${(pcm.length / rate).toFixed(1)} seconds`);
    box.replaceChildren(canvas, player);
    box.hidden = false;
    this.player = player;
  }

  // Words with their times; a word plays the recording from there.
  addWords(words) {
    const box = this.item.querySelector(".words");
    box.replaceChildren(...words.map(({ word, start, end, confidence }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = `${start.toFixed(2)} to ${end.toFixed(2)} s, confidence ${Math.round(100 * confidence)} %`;
      const time = document.createElement("span");
      time.className = "time";
      time.textContent = ` ${start.toFixed(1)} s`;
      button.append(word, time);
      button.addEventListener("click", () => {
        if (!this.player) return;
        this.player.currentTime = start;
        this.player.play();
      });
      return button;
    }));
    box.hidden = words.length === 0;
  }
}

export function status(text, { error = false } = {}) {
  const line = document.getElementById("status");
  line.textContent = text;
  line.classList.toggle("error", error);
}
