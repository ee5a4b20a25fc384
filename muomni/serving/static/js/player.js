// Plays samples while they come; `stop` silences at once (barge-in).

const LEAD = 0.06;  // seconds before the first sample, so that the next chunk is in time

export class Player {
  constructor(rate) {
    this.rate = rate;
    this.sources = new Set();
    this.end = 0;
  }

  // Called while the user acts: browsers let no other moment begin a sound.
  prepare() {
    this.context ??= new AudioContext({ sampleRate: this.rate });
    this.context.resume();
    this.begun = undefined;  // the next sound is another one
  }

  play(samples) {
    if (!samples.length) return;
    this.context ??= new AudioContext({ sampleRate: this.rate });
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    const now = this.context.currentTime;
    const start = this.end > now ? this.end : now + LEAD;
    this.begun ??= start;
    source.start(start);
    this.end = start + buffer.duration;
    this.sources.add(source);
    source.onended = () => this.sources.delete(source);
  }

  // Milliseconds of the current sound that have been played.
  get played() {
    if (this.begun === undefined || !this.context) return 0;
    return Math.max(0, 1000 * (Math.min(this.context.currentTime, this.end) - this.begun));
  }

  get playing() {
    return this.sources.size > 0;
  }

  stop() {
    for (const source of this.sources) {
      source.onended = null;
      source.stop();
      source.disconnect();
    }
    this.sources.clear();
    this.end = 0;
    this.begun = undefined;
  }
}
