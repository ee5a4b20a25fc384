// Pictures of the world with questions: something to click for a newcomer. On an empty page; later in a dialog.

import { status } from "./view.js";

const $ = (id) => document.getElementById(id);

export async function galleryReady(onAsk) {
  const entries = await (await fetch("/page/gallery/gallery.json")).json();
  const ask = async (question, file) => {
    $("examples-dialog").close();
    try {
      onAsk(question, await dataUrl(file));
    } catch (error) {
      status(error.message, { error: true });
    }
  };
  $("gallery").replaceChildren(...entries.map((entry) => card(entry, ask)));
  $("examples").addEventListener("click", () => {
    $("examples-place").append($("gallery"));
    $("examples-dialog").showModal();
  });
  $("examples-close").addEventListener("click", () => $("examples-dialog").close());
  $("examples-dialog").addEventListener("close", () => $("welcome").append($("gallery")));
}

function card({ file, description, questions }, ask) {
  const item = document.createElement("li");
  const image = new Image(96, 96);
  image.src = `/page/gallery/${file}`;
  image.alt = description;
  const box = document.createElement("div");
  box.append(...questions.map((question) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = question;
    button.addEventListener("click", () => ask(question, image.src));
    return button;
  }));
  item.append(image, box);
  return item;
}

async function dataUrl(address) {
  const blob = await (await fetch(address)).blob();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
