// Pictures of the world with questions: something to click for a newcomer.

import { status } from "/page/js/view.js";

export async function galleryReady(onAsk) {
  const entries = await (await fetch("/page/gallery/gallery.json")).json();
  document.getElementById("gallery").replaceChildren(...entries.map(({ file, description, questions }) => {
    const item = document.createElement("li");
    const image = new Image();
    image.src = `/page/gallery/${file}`;
    image.alt = description;
    const box = document.createElement("div");
    box.append(...questions.map((question) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = question;
      button.addEventListener("click", async () => {
        try {
          const blob = await (await fetch(image.src)).blob();
          const reader = new FileReader();
          reader.onload = () => onAsk(question, reader.result);
          reader.readAsDataURL(blob);
        } catch (error) {
          status(error.message, { error: true });
        }
      });
      return button;
    }));
    item.append(image, box);
    return item;
  }));
}
