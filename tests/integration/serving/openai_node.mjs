// node openai_node.mjs BASE_URL PICTURE RECORDING -> one line of JSON: what each route answered.
import fs from "node:fs";
import OpenAI from "openai";

const [, , baseURL, picture, recording] = process.argv;
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const model = "tiny";
const messages = [{ role: "user", content: "what colour" }];
const found = {};

found.models = (await client.models.list()).data.map((each) => each.id);
found.chat = (await client.chat.completions.create({ model, messages })).choices[0].message.content;
found.streamed = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  found.streamed += chunk.choices[0]?.delta?.content ?? "";
}
const url = `data:image/png;base64,${fs.readFileSync(picture).toString("base64")}`;
const looking = [{ role: "user", content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "what colour" }] }];
found.picture = (await client.chat.completions.create({ model, messages: looking })).choices.length === 1;
found.completion = (await client.completions.create({ model, prompt: "tell me", max_tokens: 4 })).choices[0].text;
found.completionStreamed = "";
for await (const chunk of await client.completions.create({ model, prompt: "tell me", max_tokens: 4, stream: true })) {
  found.completionStreamed += chunk.choices[0]?.text ?? "";
}
found.transcript = (await client.audio.transcriptions.create({ model, file: fs.createReadStream(recording) })).text;
const speech = await client.audio.speech.create({ model, voice: "0", input: "tell me", response_format: "wav" });
found.speech = (await speech.arrayBuffer()).byteLength;
try {
  await client.chat.completions.create({ model: "other", messages });
} catch (error) {
  found.missing = [error.status, error.code];
}
console.log(JSON.stringify(found));
