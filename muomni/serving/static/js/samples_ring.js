// The last seconds of a stream of samples, by their position in it.

export class SamplesRing {
  constructor(most) {
    this.most = most;  // samples
    this.blocks = [];
    this.start = 0;  // position of the first sample kept
    this.end = 0;
  }

  push(block) {
    this.blocks.push(block);
    this.end += block.length;
    while (this.end - this.start - this.blocks[0].length >= this.most) this.start += this.blocks.shift().length;
  }

  // Int16Array of the positions from `from` to `to`, as far as they are still kept.
  slice(from, to) {
    const whole = new Int16Array(Math.max(0, Math.min(to, this.end) - Math.max(from, this.start)));
    let at = this.start, written = 0;
    for (const block of this.blocks) {
      const piece = block.subarray(Math.max(0, from - at), Math.max(0, to - at));
      whole.set(piece, written);
      written += piece.length;
      at += block.length;
    }
    return whole;
  }
}
