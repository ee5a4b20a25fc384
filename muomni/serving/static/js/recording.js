// The button "Record": a recording of up to 20 seconds becomes the next message.

import { level, Microphone } from "/page/js/microphone.js";
import { join, toPcm16 } from "/page/js/pcm.js";
import { status } from "/page/js/view.js";

export const RATE = 16000;
const LONGEST = 20;  // seconds

export function showLevel(samples) {
  const value = samples ? level(samples) : 0;
  document.getElementById("level").setAttribute("aria-valuenow", String(value));
  document.getElementById("level-bar").style.width = `${value}%`;
}

export function recordingReady({ onBegin, onRecording }) {
  const button = document.getElementById("microphone");
  let blocks = [];
  let recording = false;
  const microphone = new Microphone({
    rate: RATE,
    onBlock: (samples) => {
      blocks.push(samples);
      showLevel(samples);
      if (blocks.length * samples.length > LONGEST * RATE) finish();
    },
  });

  async function begin() {
    onBegin();
    blocks = [];
    try {
      await microphone.start();
    } catch (error) {
      await microphone.stop();
      return status(`no microphone: ${error.message}`, { error: true });
    }
    recording = true;
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Send recording";
    status("recording; press again to send it");
  }

  async function finish() {
    if (!recording) return;
    recording = false;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Record";
    await microphone.stop();
    showLevel();
    const samples = join(blocks, Float32Array);
    if (samples.length < 0.2 * RATE) return status("the recording is too short", { error: true });
    onRecording({ pcm: toPcm16(samples), rate: RATE });
  }

  button.addEventListener("click", () => (recording ? finish() : begin()));
}
