// Server-sent events: text in pieces -> the data of each event.

export class EventSplitter {
  constructor() {
    this.rest = "";
  }

  // The data of the events that `piece` completes; a piece may end anywhere.
  push(piece) {
    this.rest = (this.rest + piece).replace(/\r\n/g, "\n");
    const blocks = this.rest.split("\n\n");
    this.rest = blocks.pop();
    return blocks.map(data).filter((text) => text !== "");
  }
}

function data(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
}
