// Puts the page together.

import * as api from "/page/js/api.js";
import { attached, attachmentsReady, clearAttachments } from "/page/js/attachments.js";
import { Conversation } from "/page/js/conversation.js";
import { galleryReady } from "/page/js/gallery.js";
import { handsFreeReady } from "/page/js/hands_free.js";
import { recordingReady } from "/page/js/recording.js";
import { dialogsReady, settingsReady } from "/page/js/settings.js";
import { status } from "/page/js/view.js";

const $ = (id) => document.getElementById(id);

async function begin() {
  dialogsReady();
  attachmentsReady();
  const { model, modules } = await api.health();
  $("model").textContent = model;
  let voices = [];
  try {
    voices = await api.voices();
  } catch (error) {
    if (error.status !== 401) throw error;
    status("this server needs a key: enter it in Settings", { error: true });
  }
  settingsReady(voices, () => location.reload());
  if (!modules.includes("talker")) $("speak").disabled = true;
  const hears = modules.includes("audio");
  for (const name of ["microphone", "hands-free"]) $(name).disabled = !hears;
  if (!modules.includes("vision")) for (const name of ["pick", "camera"]) $(name).disabled = true;

  const speaks = () => $("speak").checked && !$("speak").disabled;
  const conversation = new Conversation({
    model, speaks,
    onBusy: (busy) => { $("stop").hidden = !busy; $("send").hidden = busy; },
  });
  const ask = (turn) => {
    clearAttachments();
    $("question").value = "";
    return conversation.ask(turn);
  };
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("question").value.trim();
    if (!text && !attached().length) return status("write a question, or attach a picture", { error: true });
    return ask({ text, images: [...attached()] });
  });
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("composer").requestSubmit();
    }
  });
  $("question").addEventListener("input", () => {
    $("question").style.height = "auto";
    $("question").style.height = `${$("question").scrollHeight + 2}px`;
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !document.querySelector("dialog[open]")) conversation.stop(); });
  $("stop").addEventListener("click", () => conversation.stop());
  $("new").addEventListener("click", () => { conversation.clear(); $("question").focus(); });
  recordingReady({
    onBegin: () => conversation.stop(),
    onRecording: (recording) => ask({ text: $("question").value.trim(), images: [...attached()], recording }),
  });
  handsFreeReady({ model, speaks, onBegin: () => conversation.stop() });
  await galleryReady((question, url) => ask({ text: question, images: [url] }));
  document.body.dataset.ready = "true";
}

begin().catch((error) => status(error.message, { error: true }));
