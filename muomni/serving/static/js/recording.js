// The button "Record": a recording of up to 20 seconds becomes the next message.

import { Microphone, showLevel, showListening } from "./microphone.js";
import { join, toPcm16 } from "./pcm.js";
import { status } from "./view.js";

const RATE = 16000;
const LONGEST = 20;  // seconds
const SHORTEST = 0.2;

export function recordingReady({ onBegin, onRecording }) {
  const button = document.getElementById("microphone");
  const discard = document.getElementById("cancel-recording");
  let blocks = [], samples = 0, recording = false;
  const microphone = new Microphone({ rate: RATE, onBlock: take });

  function take(block) {
    if (!recording) return;
    blocks.push(block);
    samples += block.length;
    showLevel(block);
    showListening(`Recording ${Math.floor(samples / RATE)} s`);
    if (samples >= LONGEST * RATE) finish();
  }

  async function begin() {
    onBegin();
    [blocks, samples] = [[], 0];
    try {
      await microphone.start();
    } catch (error) {
      await microphone.stop();
      return status(`no microphone: ${error.message}`, { error: true });
    }
    recording = true;
    show();
    return status("Recording. Press the button again to send it, Escape to discard it.");
  }

  async function end() {
    if (!recording) return false;
    recording = false;
    show();
    status("");
    await microphone.stop();
    return true;
  }

  async function finish() {
    if (!await end()) return;
    if (samples < SHORTEST * RATE) status("the recording is too short", { error: true });
    else onRecording({ pcm: toPcm16(join(blocks, Float32Array)), rate: RATE });
  }

  function show() {
    button.setAttribute("aria-pressed", String(recording));
    button.querySelector(".label").textContent = recording ? "Send recording" : "Record";
    button.title = recording ? "Send the recording" : "Record a question";
    discard.hidden = !recording;
    showListening(recording ? "Recording 0 s" : undefined);
  }

  button.addEventListener("click", () => (recording ? finish() : begin()));
  discard.addEventListener("click", () => { end(); button.focus(); });
  return { discard: end, finish, get active() { return recording; } };
}
