// The settings dialog and the theme. Values stay in this browser; the key in this tab only.

import { getKey, setKey } from "./api.js";

const $ = (id) => document.getElementById(id);
const FIELDS = {  // of the page -> of a request
  temperature: "temperature", top_p: "top_p", top_k: "top_k", repetition_penalty: "repetition_penalty",
  max_tokens: "max_completion_tokens", seed: "seed",
};
const KEPT = ["voice", "system", ...Object.keys(FIELDS)];

function stored() {
  try {
    return JSON.parse(localStorage.getItem("muomni-settings")) ?? {};
  } catch {
    return {};  // another version's
  }
}

function keep() {
  localStorage.setItem("muomni-settings", JSON.stringify(Object.fromEntries(KEPT.map((name) => [name, $(name).value]))));
}

export function showVoices(voices) {
  const chosen = $("voice").value || stored().voice;
  $("voice").replaceChildren(...voices.map((id) => new Option(`Voice ${id}`, id)));
  if (voices.includes(chosen)) $("voice").value = chosen;
  for (const name of ["voice", "sample"]) $(name).disabled = voices.length === 0;
}

// onKey: called with a key that was entered; onSample: speak something in the chosen voice.
export function settingsReady({ onKey, onSample }) {
  const kept = stored();
  for (const name of KEPT) {
    if (kept[name] !== undefined && name !== "voice") $(name).value = kept[name];
    $(name).addEventListener("change", () => ($(name).checkValidity() ? keep() : $(name).reportValidity()));
  }
  $("settings").addEventListener("close", () => {
    for (const name of KEPT) if (!$(name).checkValidity()) $(name).value = "";
    keep();
  });
  $("defaults").addEventListener("click", () => {
    for (const name of ["system", ...Object.keys(FIELDS)]) $(name).value = "";
    keep();
  });
  $("sample").addEventListener("click", onSample);
  $("key").value = getKey();
  $("key").addEventListener("change", () => { setKey($("key").value); onKey(); });
  $("open-settings").addEventListener("click", () => $("settings").showModal());
  themeReady();
}

export function askForKey() {
  $("key-needed").hidden = false;
  if (!$("settings").open) $("settings").showModal();
  $("key").focus();
}

export function keyAccepted() {
  $("key-needed").hidden = true;
}

// Fields of a request. Those left empty have the server's defaults.
export function sampling() {
  const given = Object.entries(FIELDS).filter(([name]) => $(name).value !== "" && $(name).checkValidity());
  return Object.fromEntries(given.map(([name, field]) => [field, Number($(name).value)]));
}

export const instructions = () => $("system").value.trim();
export const voice = () => $("voice").value;

function themeReady() {
  const button = $("theme"), root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => button.setAttribute("aria-pressed", String(dark()));
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    localStorage.setItem("muomni-theme", root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}
