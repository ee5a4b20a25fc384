// The settings dialog and the theme. Values stay in this browser; the key in this tab only.

import { getKey, setKey } from "/page/js/api.js";

const $ = (id) => document.getElementById(id);
const KEPT = ["voice", "temperature", "top_p", "max_tokens", "seed", "system"];

export function settingsReady(voices, onKey) {
  for (const id of voices) $("voice").add(new Option(`voice ${id}`, id));
  const kept = JSON.parse(localStorage.getItem("muomni-settings") ?? "{}");
  for (const name of KEPT) {
    if (kept[name] !== undefined && (name !== "voice" || voices.includes(kept[name]))) $(name).value = kept[name];
    $(name).addEventListener("change", keep);
  }
  $("key").value = getKey();
  $("key").addEventListener("change", () => { setKey($("key").value); onKey(); });
}

function keep() {
  localStorage.setItem("muomni-settings", JSON.stringify(Object.fromEntries(KEPT.map((name) => [name, $(name).value]))));
}

// Fields of a request. Those left empty have the server's defaults.
export function sampling() {
  const body = {};
  for (const [name, field] of [["temperature", "temperature"], ["top_p", "top_p"], ["max_tokens", "max_completion_tokens"], ["seed", "seed"]]) {
    if ($(name).value !== "" && $(name).checkValidity()) body[field] = Number($(name).value);
  }
  return body;
}

export const instructions = () => $("system").value.trim();
export const voice = () => $("voice").value;

export function dialogsReady() {
  $("open-settings").addEventListener("click", () => $("settings").showModal());
  const button = $("theme");
  const dark = () => document.documentElement.dataset.theme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const show = () => button.setAttribute("aria-pressed", String(dark()));
  const chosen = localStorage.getItem("muomni-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  button.addEventListener("click", () => {
    const theme = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("muomni-theme", theme);
    show();
  });
  show();
}
