// Messages on the page. Text is always set as text, never as HTML.

import { announce } from "./announce.js";
import { toEnd, toStart } from "./scroll.js";
import { Sound } from "./sound.js";

const WHO = { user: "You", assistant: "muomni", error: "Error" };
const UNSURE = 0.6;  // confidence of a word below which it is marked
const list = document.getElementById("messages");
const views = new Set();

export function addMessage(role, { images = [], text = "" } = {}) {
  document.getElementById("welcome").hidden = true;
  const item = document.getElementById("message").content.firstElementChild.cloneNode(true);
  item.classList.add(role);
  item.querySelector(".who").textContent = WHO[role];
  const media = item.querySelector(".media");
  media.hidden = images.length === 0;
  media.append(...images.map((url, index) => {
    const image = new Image();
    image.src = url;
    image.alt = images.length > 1 ? `attached picture ${index + 1}` : "attached picture";
    return image;
  }));
  const view = new MessageView(item);
  view.text = text;
  views.add(view);
  list.append(item);
  if (role === "user") toEnd();
  return view;
}

// retry: called when the user wants to try again.
export function addError(text, retry) {
  const view = addMessage("error", { text });
  announce(`Error: ${text}`);
  if (!retry) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Try again";
  button.addEventListener("click", () => { view.remove(); retry(); });
  view.item.querySelector(".bubble").append(button);
}

export function clearMessages() {
  for (const view of views) view.remove();
  document.getElementById("welcome").hidden = false;
  toStart();
}

class MessageView {
  constructor(item) {
    this.item = item;
    this.paragraph = item.querySelector(".text");
  }

  get text() { return this.paragraph.textContent; }

  set text(value) { this.paragraph.textContent = value; }

  append(piece) { this.paragraph.append(piece); }

  busy(is) { this.item.setAttribute("aria-busy", String(is)); }

  // A line in small print below the message.
  about(text) {
    const line = this.item.querySelector(".about");
    line.textContent = text;
    line.hidden = !text;
  }

  remove() {
    this.sound?.release();
    views.delete(this);
    this.item.remove();
  }

  addSound(pcm, rate, label) {
    const box = this.item.querySelector(".sound");
    box.hidden = false;
    this.sound = new Sound(box, pcm, rate, label);
  }

  // words: [{word, start, end, confidence}], each a button that plays the recording from there; without them the text alone.
  addTranscript(text, words) {
    const box = this.item.querySelector(".transcript");
    const buttons = words.map((word) => this.wordButton(word));
    box.replaceChildren(...(words.length ? buttons : [text]));
    box.hidden = !text;
    if (!this.sound || !words.length) return;
    this.sound.onPosition = (seconds) => buttons.forEach((button, index) => {
      button.toggleAttribute("aria-current", seconds >= words[index].start && seconds < words[index].end);
      if (button.hasAttribute("aria-current")) button.setAttribute("aria-current", "true");
    });
  }

  wordButton({ word, start, end, confidence }) {
    const button = document.createElement("button");
    button.type = "button";
    const sure = confidence === undefined ? "" : `, confidence ${Math.round(100 * confidence)} %`;
    button.title = `${start.toFixed(2)} to ${end.toFixed(2)} s${sure}`;
    button.classList.toggle("unsure", confidence < UNSURE);
    const when = document.createElement("span");
    when.className = "when";
    when.textContent = `${start.toFixed(1)} s`;
    button.append(`${word} `, when);
    button.addEventListener("click", () => this.sound?.play(start));
    return button;
  }
}

export function status(text, { error = false } = {}) {
  const line = document.getElementById("status");
  line.textContent = text;
  line.classList.toggle("error", error);
}
