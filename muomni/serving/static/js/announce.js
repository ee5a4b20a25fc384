// What screen readers are told. The list of messages is no live region: a stream of tokens would be spelled out. Instead whole
// sentences of an answer go to one hidden live region as they are complete.

import { cutSentences } from "./sentences.js";

const KEPT = 12;

export function announce(text) {
  const region = document.getElementById("announcer");
  const line = document.createElement("p");
  line.textContent = text;
  region.append(line);
  while (region.children.length > KEPT) region.firstChild.remove();
}

export class AnswerAnnouncer {
  constructor() {
    this.rest = "";
  }

  push(piece) {
    const { whole, rest } = cutSentences(this.rest + piece);
    whole.forEach(announce);
    this.rest = rest;
  }

  end() {
    if (this.rest.trim()) announce(this.rest.trim());
    this.rest = "";
  }
}
