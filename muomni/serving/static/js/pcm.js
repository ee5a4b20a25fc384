// Samples: base64 of PCM16, WAV files, levels.

export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}

export function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

export function toPcm16(samples) {
  return Int16Array.from(samples, (sample) => Math.round(32767 * Math.max(-1, Math.min(1, sample))));
}

export function toFloat(pcm) {
  return Float32Array.from(pcm, (sample) => sample / 32768);
}

export function join(blocks, Type) {
  const whole = new Type(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    whole.set(block, at);
    at += block.length;
  }
  return whole;
}

// Int16Array -> a mono WAV file.
export function wavFile(pcm, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const write = (at, text) => [...text].forEach((c, index) => header.setUint8(at + index, c.charCodeAt(0)));
  write(0, "RIFF"); header.setUint32(4, 36 + 2 * pcm.length, true); write(8, "WAVEfmt ");
  header.setUint32(16, 16, true); header.setUint16(20, 1, true); header.setUint16(22, 1, true);
  header.setUint32(24, rate, true); header.setUint32(28, 2 * rate, true); header.setUint16(32, 2, true); header.setUint16(34, 16, true);
  write(36, "data"); header.setUint32(40, 2 * pcm.length, true);
  return new Blob([header, pcm], { type: "audio/wav" });
}

// 0 to 100 for -60 dB to full scale.
export function level(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  return Math.max(0, Math.min(100, Math.round(100 + (100 / 60) * 10 * Math.log10(power + 1e-12))));
}
