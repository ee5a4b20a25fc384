// Pictures for the next message: chosen, dropped, pasted or taken by the camera.

import { status } from "/page/js/view.js";

const MOST = 8;
const LONGEST_SIDE = 1536;  // larger pictures are made smaller here: the model sees less anyway
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
    pictures.push(await dataUrl(blob));
    show();
    status("picture attached");
  } catch {
    status("this file is no picture that the browser can read", { error: true });
  }
}

async function dataUrl(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && ["image/png", "image/jpeg", "image/webp"].includes(blob.type)) {
    return await new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = reject;
      reader.readAsDataURL(blob);
    });
  }
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
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
    remove.textContent = "Remove";
    remove.setAttribute("aria-label", `Remove picture ${index + 1}`);
    remove.addEventListener("click", () => { pictures.splice(index, 1); show(); });
    item.append(image, remove);
    return item;
  }));
}

export function attachmentsReady() {
  const composer = document.getElementById("composer");
  const pick = document.getElementById("pick");
  pick.addEventListener("change", async () => {
    for (const file of pick.files) await attach(file);
    pick.value = "";
  });
  document.addEventListener("paste", async (event) => {
    for (const file of event.clipboardData.files) if (file.type.startsWith("image/")) await attach(file);
  });
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, async (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      composer.classList.toggle("dropping", name === "dragover");
      if (name === "drop") for (const file of event.dataTransfer.files) await attach(file);
    });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) composer.classList.remove("dropping"); });
  cameraReady();
}

function cameraReady() {
  const dialog = document.getElementById("camera-dialog");
  const view = document.getElementById("camera-view");
  let stream;
  document.getElementById("camera").addEventListener("click", async () => {
    try {
      if (!navigator.mediaDevices?.getUserMedia) throw new Error("browsers allow it on https or localhost only");
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      view.srcObject = stream;
      dialog.showModal();
    } catch (error) {
      status(`no camera: ${error.message}`, { error: true });
    }
  });
  document.getElementById("camera-take").addEventListener("click", async () => {
    const canvas = document.createElement("canvas");
    canvas.width = view.videoWidth;
    canvas.height = view.videoHeight;
    canvas.getContext("2d").drawImage(view, 0, 0);
    await attach(await new Promise((resolve) => canvas.toBlob(resolve, "image/png")));
    dialog.close();
  });
  document.getElementById("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    stream?.getTracks().forEach((track) => track.stop());
    view.srcObject = null;
  });
}
