// Pictures for the next message: chosen, dropped, pasted or taken by the camera.

import { icon } from "./icons.js";
import { status } from "./view.js";

const MOST = 8;
const LONGEST_SIDE = 1024;  // larger pictures are made smaller here: the model gets fewer pixels anyway
const LARGEST = 600_000;  // characters of a data URL that stays lossless
const KEPT_TYPES = ["image/png", "image/jpeg", "image/webp"];
const list = document.getElementById("attachments");
let pictures = [];

export const attached = () => pictures;

export function clearAttachments() {
  pictures = [];
  show();
}

export async function attach(blob) {
  if (pictures.length >= MOST) return status(`at most ${MOST} pictures in a message`, { error: true });
  try {
    const url = await dataUrl(blob);
    pictures.push(url);
  } catch {
    return status("this file is no picture that the browser can read", { error: true });
  }
  show();
  document.getElementById("question").focus();
  return status("picture attached");
}

async function dataUrl(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && KEPT_TYPES.includes(blob.type) && blob.size < LARGEST / 2) return unchanged(blob);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const lossless = canvas.toDataURL("image/png");
  return lossless.length <= LARGEST ? lossless : canvas.toDataURL("image/jpeg", 0.92);
}

function unchanged(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function show() {
  list.hidden = pictures.length === 0;
  list.replaceChildren(...pictures.map((url, index) => {
    const item = document.createElement("li");
    const image = new Image();
    image.src = url;
    image.alt = `picture ${index + 1}`;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.append(icon("close"));
    remove.setAttribute("aria-label", `Remove picture ${index + 1}`);
    remove.addEventListener("click", () => {
      pictures.splice(index, 1);
      show();
      (list.querySelectorAll("button")[index] ?? document.getElementById("question")).focus();
    });
    item.append(image, remove);
    return item;
  }));
}

export function attachmentsReady() {
  const box = document.querySelector(".box");
  const pick = document.getElementById("pick");
  const all = async (files) => { for (const file of files) await attach(file); };
  pick.addEventListener("change", async () => {
    await all([...pick.files]);
    pick.value = "";
  });
  document.addEventListener("paste", (event) => all([...event.clipboardData.files]));
  document.addEventListener("dragover", (event) => {
    if (pick.disabled || ![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    box.classList.add("dropping");
  });
  document.addEventListener("drop", (event) => {
    if (!box.classList.contains("dropping")) return;
    event.preventDefault();
    box.classList.remove("dropping");
    all([...event.dataTransfer.files]);
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) box.classList.remove("dropping"); });
}
