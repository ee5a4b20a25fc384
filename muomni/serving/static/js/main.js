// Puts the page together.

import * as api from "./api.js";
import { attached, attachmentsReady, clearAttachments } from "./attachments.js";
import { cameraReady } from "./camera.js";
import { Conversation } from "./conversation.js";
import { galleryReady } from "./gallery.js";
import { HandsFree } from "./hands_free.js";
import { toFloat } from "./pcm.js";
import { Player } from "./player.js";
import { recordingReady } from "./recording.js";
import { scrollReady } from "./scroll.js";
import { askForKey, keyAccepted, settingsReady, showVoices, voice } from "./settings.js";
import { status } from "./view.js";

const $ = (id) => document.getElementById(id);
const SAMPLE = "a small red circle above a big blue square";

async function begin() {
  const { model, modules } = await api.health();
  const can = (module) => modules.includes(module);
  $("model").textContent = model;
  allow("speak", can("talker"));
  for (const name of ["microphone", "hands-free"]) allow(name, can("audio"));
  for (const name of ["pick", "camera", "examples"]) allow(name, can("vision"));
  const speaks = () => $("speak").checked && !$("speak").disabled;
  const conversation = new Conversation({ model, speaks, onKey: askForKey, onBusy: showBusy });
  const handsFree = new HandsFree({ model, speaks, conversation });
  const recording = recordingReady({
    onBegin: () => { handsFree.end(); conversation.stop(); },
    onRecording: (recorded) => ask({ text: $("question").value.trim(), images: [...attached()], recording: recorded }),
  });
  const stop = () => {
    conversation.stop();
    handsFree.end();
    recording.discard();
  };
  const ask = (turn) => {
    clearAttachments();
    $("question").value = "";
    grow();
    return handsFree.active && !turn.recording ? handsFree.ask(turn) : conversation.ask(turn);
  };
  settingsReady({ onKey: loadVoices, onSample: () => speakSample(model) });
  attachmentsReady();
  cameraReady();
  scrollReady();
  composerReady({ ask, recording });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop();
  });
  $("stop").addEventListener("click", () => { conversation.stop(); $("question").focus(); });
  $("new").addEventListener("click", () => { stop(); conversation.clear(); $("question").focus(); });
  $("speak").checked = localStorage.getItem("muomni-speak") === "true" && !$("speak").disabled;
  $("speak").addEventListener("change", () => {
    localStorage.setItem("muomni-speak", String($("speak").checked));
    if (!$("speak").checked) conversation.player.stop();
  });
  await loadVoices();
  if (can("vision")) await galleryReady((question, url) => ask({ text: question, images: [url] }));
  document.body.dataset.ready = "true";
}

function allow(name, is) {
  $(name).disabled = !is;
  document.querySelector(`label[for="${name}"]`)?.classList.toggle("disabled", !is);
  if (!is) $(name).title = "this model cannot";
}

function showBusy(busy) {
  const moved = document.activeElement === $(busy ? "send" : "stop");
  $("stop").hidden = !busy;
  $("send").hidden = busy;
  if (moved) $(busy ? "stop" : "send").focus();
}

async function loadVoices() {
  try {
    showVoices(await api.voices());
    keyAccepted();
  } catch (error) {
    if (error.status !== 401) throw error;
    showVoices([]);
    askForKey();
  }
}

const samplePlayer = new Player(24000);

async function speakSample(model) {
  samplePlayer.stop();
  samplePlayer.prepare();
  $("sample").disabled = true;
  try {
    samplePlayer.play(toFloat(await api.speech(model, voice(), SAMPLE)));
  } catch (error) {
    status(error.message, { error: true });
  } finally {
    $("sample").disabled = false;
  }
}

function grow() {
  const box = $("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

function composerReady({ ask, recording }) {
  const question = $("question");
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    if (recording.active) return recording.finish();
    const text = question.value.trim();
    if (!text && !attached().length) return status("Write a question, or attach a picture.", { error: true });
    return ask({ text, images: [...attached()] });
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("composer").requestSubmit();
  });
  question.addEventListener("input", () => { grow(); status(""); });
}

begin().catch((error) => status(error.message, { error: true }));
