// What was said, as exchanges {content, answer}: the messages of a request, and the items of a realtime session.
// content: the user's items in the form of /v1/chat/completions; answer: "" until there is one.

const MOST_IMAGES = 8;  // that the server takes in a request, by default

const isImage = (item) => item.type === "image_url";

// The last exchange is the one to be answered. skip: so many of the oldest are left out.
export function toMessages(exchanges, { instructions = "", skip = 0 } = {}) {
  const earlier = exchanges.slice(0, -1).filter((each) => each.answer && each.content.length);
  const sent = [...earlier.slice(skip), ...exchanges.slice(-1)];
  let images = 0;
  const contents = sent.toReversed().map(({ content }) => {
    images += content.filter(isImage).length;
    return images > MOST_IMAGES ? content.filter((item) => !isImage(item)) : content;
  }).toReversed();
  const turns = sent.flatMap(({ answer }, index) => {
    if (!contents[index].length) return [];
    const turn = { role: "user", content: contents[index] };
    return index < sent.length - 1 ? [turn, { role: "assistant", content: answer }] : [turn];
  });
  return [...(instructions ? [{ role: "system", content: instructions }] : []), ...turns];
}

// How many exchanges before the last one can be left out.
export function countEarlier(exchanges) {
  return exchanges.slice(0, -1).filter((each) => each.answer && each.content.length).length;
}

// The user's items for a realtime session; recordings by their transcript.
export function toRealtimeContent({ content, transcript = "" }) {
  return content.flatMap((item) => {
    if (item.type === "text") return [{ type: "input_text", text: item.text }];
    if (isImage(item)) return [{ type: "input_image", image_url: item.image_url.url }];
    return transcript ? [{ type: "input_text", text: transcript }] : [];
  });
}

// Items of all complete exchanges.
export function toRealtimeItems(exchanges) {
  return exchanges.filter((each) => each.answer).flatMap((each) => {
    const content = toRealtimeContent(each);
    if (!content.length) return [];
    return [
      { type: "message", role: "user", content },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: each.answer }] },
    ];
  });
}
