// Logic of the page that needs no browser. Run by test_page_modules.py, with the page's modules in PAGE.

import assert from "node:assert/strict";
import { test } from "node:test";

const load = (name) => import(`${process.env.PAGE}/${name}`);
const { fromBase64, join, level, toBase64, toFloat, toPcm16, wavFile } = await load("pcm.js");
const { EventSplitter } = await load("sse.js");
const { SamplesRing } = await load("samples_ring.js");
const { countEarlier, toMessages, toRealtimeItems } = await load("history.js");
const { cutSentences } = await load("sentences.js");
const { spectrogram } = await load("spectrogram.js");

test("PCM16 through base64 is the same samples", () => {
  const pcm = Int16Array.from({ length: 40_000 }, (_, index) => (index * 7919) % 65536 - 32768);
  assert.deepEqual(fromBase64(toBase64(new Uint8Array(pcm.buffer))), pcm);
});

test("samples are clipped, not wrapped", () => {
  assert.deepEqual(toPcm16(Float32Array.of(-2, -1, 0, 0.5, 1, 2)), Int16Array.of(-32767, -32767, 0, 16384, 32767, 32767));
  assert.deepEqual(toFloat(Int16Array.of(-32768, 16384)), Float32Array.of(-1, 0.5));
  assert.deepEqual(join([Int16Array.of(1, 2), Int16Array.of(3)], Int16Array), Int16Array.of(1, 2, 3));
});

test("a WAV file has the header of its samples", async () => {
  const view = new DataView(await wavFile(Int16Array.of(1, -2, 3), 16_000).arrayBuffer());
  const text = (at) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
  assert.deepEqual([text(0), text(8), text(12), text(36)], ["RIFF", "WAVE", "fmt ", "data"]);
  assert.equal(view.byteLength, 50);
  assert.equal(view.getUint32(4, true), 42);  // of the file, without these eight bytes
  assert.equal(view.getUint16(20, true), 1);  // PCM
  assert.equal(view.getUint16(22, true), 1);  // mono
  assert.equal(view.getUint32(24, true), 16_000);
  assert.equal(view.getUint32(28, true), 32_000);  // bytes a second
  assert.equal(view.getUint16(34, true), 16);
  assert.equal(view.getUint32(40, true), 6);
  assert.equal(view.getInt16(46, true), -2);
});

test("the level is 0 for silence, 100 for full scale, and half at -30 dB", () => {
  assert.equal(level(new Float32Array(100)), 0);
  assert.equal(level(new Float32Array(100).fill(1)), 100);
  assert.equal(level(new Float32Array(100).fill(10 ** (-30 / 20))), 50);
});

test("events are the same however their text is cut", () => {
  const text = 'data: {"a": "ü"}\n\n: a comment\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\ndata: [DONE]\n\n';
  const expected = ['{"a": "ü"}', "one\ntwo", "[DONE]"];
  for (let size = 1; size <= text.length; size++) {
    const splitter = new EventSplitter(), found = [];
    for (let at = 0; at < text.length; at += size) found.push(...splitter.push(text.slice(at, at + size)));
    assert.deepEqual(found, expected, `pieces of ${size}`);
  }
});

test("the last samples of a stream are kept by their position", () => {
  const ring = new SamplesRing(5);
  for (const block of [[0, 1, 2], [3, 4, 5], [6, 7]]) ring.push(Int16Array.from(block));
  assert.deepEqual([...ring.slice(4, 7)], [4, 5, 6]);
  assert.deepEqual([...ring.slice(0, 100)], [3, 4, 5, 6, 7]);
  assert.deepEqual([...ring.slice(20, 30)], []);
});

const text = (words) => [{ type: "text", text: words }];
const image = (name) => ({ type: "image_url", image_url: { url: `data:${name}` } });

test("an exchange without an answer leaves no message", () => {
  const exchanges = [
    { content: text("a"), answer: "b" }, { content: text("stopped"), answer: "" }, { content: [], answer: "c" },
    { content: text("now"), answer: "" },
  ];
  const said = toMessages(exchanges, { instructions: "be brief" }).map(({ role, content }) => [role, content[0].text ?? content]);
  assert.deepEqual(said, [["system", "be brief"], ["user", "a"], ["assistant", "b"], ["user", "now"]]);
  assert.equal(countEarlier(exchanges), 1);
  assert.deepEqual(toMessages(exchanges, { skip: 1 }).map(({ role }) => role), ["user"]);
});

test("of many pictures the last eight are sent, and the texts of all", () => {
  const exchanges = Array.from({ length: 10 }, (_, index) => ({ content: [image(index), ...text(`${index}`)], answer: "x" }));
  const sent = toMessages(exchanges).filter(({ role }) => role === "user");
  assert.deepEqual(sent.map(({ content }) => content.length), [1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
});

test("a realtime session takes over texts, pictures and transcripts", () => {
  const items = toRealtimeItems([
    { content: [image("1"), { type: "input_audio" }], transcript: "how many", answer: "two" },
    { content: [{ type: "input_audio" }], answer: "not written down" },
    { content: text("open"), answer: "" },
  ]);
  assert.deepEqual(items.map(({ role, content }) => [role, content.map((each) => each.text ?? each.image_url)]), [
    ["user", ["data:1", "how many"]], ["assistant", ["two"]],
  ]);
});

test("sentences are cut where they end, short ones together", () => {
  assert.deepEqual(cutSentences("Yes. No. The ring is at the top left. And the"), {
    whole: ["Yes. No. The ring is at the top left."], rest: "And the",
  });
  assert.deepEqual(cutSentences("a line that has no full stop\nrest"), { whole: ["a line that has no full stop"], rest: "rest" });
  assert.deepEqual(cutSentences("3.14 is not two sentences, nor is 2.72"), { whole: [], rest: "3.14 is not two sentences, nor is 2.72" });
});

test("a tone stands in its own bin of the spectrogram", () => {
  const rate = 16_000, tone = Float32Array.from({ length: rate }, (_, index) => Math.sin((2 * Math.PI * 1000 * index) / rate));
  const { columns, bins, levels } = spectrogram(tone, rate);
  assert.equal(bins, 256);
  const column = levels.subarray(bins * (columns >> 1), bins * ((columns >> 1) + 1));
  assert.equal(column.indexOf(Math.max(...column)), (1000 * 512) / rate);
  assert.ok(column[100] < -60);
  assert.equal(spectrogram(tone.subarray(0, 10), 24_000).bins, 171);  // up to 8 kHz; shorter than a window
});
