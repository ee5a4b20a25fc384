// The server's API: one function a route. Errors carry the server's own message.

let key = sessionStorage.getItem("muomni-key") ?? "";

export function setKey(value) {
  key = value.trim();
  sessionStorage.setItem("muomni-key", key);
}

export function getKey() {
  return key;
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* not ours: keep the status */ }
  const error = new Error(message);
  error.status = response.status;
  error.retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw error;
}

export async function health() {
  return (await call("/health")).json();
}

export async function voices() {
  return (await (await call("/v1/audio/voices")).json()).data.map((voice) => voice.id);
}

// Yields the objects of a stream of server-sent events.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const data = buffer.slice(0, end).split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      buffer = buffer.slice(end + 2);
      if (data === "[DONE]") return;
      if (!data) continue;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

export async function* chat(body, signal) {
  const response = await call("/v1/chat/completions", {
    method: "POST", signal, headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
  yield* events(response);
}

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
