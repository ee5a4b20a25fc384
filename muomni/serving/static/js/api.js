// The server's API: one function a route. Errors carry the server's own message, its code, and when to try again.

import { EventSplitter } from "./sse.js";

let key = sessionStorage.getItem("muomni-key") ?? "";

export function setKey(value) {
  key = value.trim();
  sessionStorage.setItem("muomni-key", key);
}

export function getKey() {
  return key;
}

export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

const LOST = "the connection to the server was lost";

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the server cannot be reached", { code: "unreachable" });
  }
  if (response.ok) return response;
  let body = { message: `${response.status} ${response.statusText}` };
  try {
    body = (await response.json()).error;
  } catch { /* not the server's own form, as of a proxy: the status says enough */ }
  throw new ApiError(body.message, {
    status: response.status, code: body.code, param: body.param, retryAfter: Number(response.headers.get("Retry-After")) || 0,
  });
}

const post = (path, body, signal) => call(path, {
  method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
});

export async function health() {
  return (await call("/health")).json();
}

export async function voices() {
  return (await (await call("/v1/audio/voices")).json()).data.map((voice) => voice.id);
}

// Yields a stream's objects. Ends with [DONE]; a stream that ends without it has broken off.
async function* events(response) {
  const splitter = new EventSplitter();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    let read;
    try {
      read = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(LOST, { code: "lost" });
    }
    if (read.done) throw new ApiError(LOST, { code: "lost" });
    for (const data of splitter.push(read.value)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message, event.error);
      yield event;
    }
  }
}

export async function* chat(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  yield* events(await post("/v1/chat/completions", asked, signal));
}

// A text as PCM16 of 24 kHz.
export async function speech(model, voice, input) {
  const response = await post("/v1/audio/speech", { model, voice, input, response_format: "pcm" });
  return new Int16Array(await response.arrayBuffer());
}

// {text, words}: each word with its times in seconds, and its confidence.
export async function transcribe(model, wav) {
  const form = new FormData();
  form.append("file", wav, "recording.wav");
  form.append("model", model);
  form.append("response_format", "verbose_json");
  form.append("timestamp_granularities[]", "word");
  return (await call("/v1/audio/transcriptions", { method: "POST", body: form })).json();
}

export function realtimeSocket(model) {
  const address = new URL("/v1/realtime", location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.searchParams.set("model", model);
  return new WebSocket(address, key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"]);
}
