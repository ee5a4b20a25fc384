// A spectrogram on a canvas: 512-sample Hann windows, decibels below the loudest bin, up to 8 kHz: speech has little above.

const SIZE = 512;
const RANGE = 70;
const HIGHEST = 8000;  // Hz
const COSINES = Float32Array.from({ length: SIZE / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / SIZE));
const SINES = Float32Array.from({ length: SIZE / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / SIZE));

function fft(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let length = 2; length <= n; length <<= 1) {
    const step = SIZE / length;
    for (let start = 0; start < n; start += length) {
      for (let k = 0; k < length / 2; k++) {
        const cos = COSINES[k * step], sin = SINES[k * step];
        const a = start + k, b = a + length / 2;
        const re = real[b] * cos - imaginary[b] * sin, im = real[b] * sin + imaginary[b] * cos;
        real[b] = real[a] - re; imaginary[b] = imaginary[a] - im;
        real[a] += re; imaginary[a] += im;
      }
    }
  }
}

// samples -> {columns, bins, levels}: levels (columns * bins) in dB of the loudest, from -RANGE to 0, low frequencies first.
export function spectrogram(samples, rate) {
  const columns = Math.min(720, Math.max(1, Math.floor(samples.length / 32)));
  const bins = Math.min(SIZE / 2, Math.round((SIZE * HIGHEST) / rate));
  const hop = Math.max(0, (samples.length - SIZE) / columns);
  const window = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
  const levels = new Float32Array(columns * bins);
  let loudest = -Infinity;
  for (let column = 0; column < columns; column++) {
    const start = Math.floor(column * hop);
    const real = Float32Array.from(window, (weight, i) => weight * (samples[start + i] ?? 0));
    const imaginary = new Float32Array(SIZE);
    fft(real, imaginary);
    for (let bin = 0; bin < bins; bin++) {
      const decibels = 10 * Math.log10(real[bin] ** 2 + imaginary[bin] ** 2 + 1e-10);
      levels[column * bins + bin] = decibels;
      loudest = Math.max(loudest, decibels);
    }
  }
  return { columns, bins, levels: levels.map((value) => Math.max(-RANGE, value - loudest)) };
}

export function drawSpectrogram(canvas, samples, rate) {
  const { columns, bins, levels } = spectrogram(samples, rate);
  canvas.width = columns;
  canvas.height = bins;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, bins);
  for (let column = 0; column < columns; column++) {
    for (let bin = 0; bin < bins; bin++) {
      const share = 1 + levels[column * bins + bin] / RANGE;
      const at = 4 * ((bins - 1 - bin) * columns + column);
      image.data[at] = 255 * Math.min(1, 1.6 * share ** 1.5);
      image.data[at + 1] = 255 * share ** 3;
      image.data[at + 2] = 255 * Math.max(0, 0.75 * Math.sin(Math.PI * share));
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}
