// x @ weight.T with weights of 8 or 4 bits and a scale for each GROUP inputs: products of integers, and one multiplication in
// float32 a group.
//
// x is rounded to 15 bits, a scale for each row and group, so that nearly all of the error is the weights'.
//
// Layout of the weight: panels of WIDTH outputs (P, K / 4, WIDTH, 4) of the number + OFFSET, or (P, K / 8, WIDTH, 4) of two
// numbers of LEVELS; scales (P, K / GROUP, WIDTH) in bfloat16; K is a multiple of GROUP, N at most P * WIDTH. A panel is read
// front to back.
//
// Shapes: M rows of x, N outputs, K inputs (x may have fewer: what is missing is zero), P panels, G groups.

#include "packed_sums.h"
#include "tensors.h"

namespace muomni {
namespace {

constexpr int MAX_ROWS = 8;                  // whose sums fit into registers
constexpr int FEW_ROWS = 2;                  // the same for two panels
constexpr int64_t PIECE = int64_t(1) << 17;  // products that are worth a thread

// The numbers (P, G, lines, WIDTH, 4) and scales (P, G, WIDTH) of P panels, and where their N outputs of a row go.
struct Panels {
  const uint8_t* numbers;
  const uint16_t* scales;
  float* y;
  int64_t G, N;
};

// The outputs of S panels, `apart` from one to the next, for M rows from row m on.
template <class Format, int S, int M>
void outputs(Panels all, int64_t panel, int64_t apart, const Rounded& x, int64_t m) {
  constexpr int PER_LINE = Format::PER_LINE, LINES = QUADS / PER_LINE;
  Sums sums[S][M];
  for (auto& row : sums) {
    for (Sums& each : row) each = zero();
  }
  const int64_t G = all.G;
  const uint8_t* at[S];
  const uint16_t* scales[S];
  for (int s = 0; s < S; ++s) {
    at[s] = all.numbers + (panel + s * apart) * G * LINES * LINE;
    scales[s] = all.scales + (panel + s * apart) * G * WIDTH;
  }
  for (int64_t g = 0; g < G; ++g) {
    const Inputs inputs = x.inputs(m, g, G);
    Whole whole[S][M];
#pragma GCC unroll 8
    for (int line = 0; line < LINES; ++line) {
      Numbers weights[S][PER_LINE];
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) unpack(Format(), at[s] + (g * LINES + line) * LINE, weights[s]);
#pragma GCC unroll 16
      for (int i = 0; i < M * PER_LINE; ++i) {
        const int row = i / PER_LINE, part = i % PER_LINE;
        const Four given(inputs, row * inputs.K + (line * PER_LINE + part) * 4);
#pragma GCC unroll 8
        for (int s = 0; s < S; ++s) whole[s][row].add(weights[s][part], given);
      }
    }
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const int64_t index = i * inputs.G;
        sums[s][i] = whole[s][i].scaled(sums[s][i], scales[s] + g * WIDTH, inputs.scale[index], inputs.correction[index]);
      }
    }
  }
  for (int s = 0; s < S; ++s) {
    const int64_t first = (panel + s * apart) * WIDTH, count = all.N - first < WIDTH ? all.N - first : WIDTH;
    for (int i = 0; i < M; ++i) {
      float found[WIDTH];
      store(found, sums[s][i]);
      std::memcpy(all.y + (m + i) * all.N + first, found, count * sizeof(float));
    }
  }
}

// The same for `count` rows, at most M.
template <class Format, int S, int M>
void rows(int64_t count, const Panels& all, int64_t panel, int64_t apart, const Rounded& x, int64_t m) {
  if constexpr (M > 1) {
    if (count < M) return rows<Format, S, M - 1>(count, all, panel, apart, x, m);
  }
  outputs<Format, S, M>(all, panel, apart, x, m);
}

// The panels begin .. end for M rows. Few rows read two streams at a distance, which keeps more requests to memory under way.
template <class Format>
void product(const Panels& all, int64_t begin, int64_t end, const Rounded& x, int64_t M) {
  const int64_t half = M <= FEW_ROWS ? (end - begin) / 2 : 0;
  for (int64_t panel = begin; panel < begin + half; ++panel) rows<Format, 2, FEW_ROWS>(M, all, panel, half, x, 0);
  for (int64_t panel = begin + 2 * half; panel < end; ++panel) {
    for (int64_t m = 0; m < M; m += MAX_ROWS) {
      rows<Format, 1, MAX_ROWS>(M - m < MAX_ROWS ? M - m : MAX_ROWS, all, panel, 0, x, m);
    }
  }
}

template <class Format>
AtenTensorHandle packed_linear(
    const std::array<AtenTensorHandle, 3>& handles, const std::array<int64_t, 1>& integers) {
  const View x(handles[0], "x"), panels(handles[1], "panels"), scales(handles[2], "scales");
  require(
      x.dim >= 1 && panels.dim == 4 && panels.sizes[2] == WIDTH && panels.sizes[3] == 4,
      "packed weights: x (..., K), and panels (P, K / 4, 16, 4) of 8 bits or (P, K / 8, 16, 4) of 4");
  const int64_t P = panels.sizes[0], K = panels.sizes[1] * 4 * Format::PER_LINE, G = K / GROUP, N = integers[0], given = x.last();
  require(
      K % GROUP == 0 && K - GROUP < given && given <= K, "packed weights: K must be that of x, rounded up to a multiple of 32");
  require(
      scales.numel() == P * G * WIDTH && (P - 1) * WIDTH < N && N <= P * WIDTH,
      "packed weights: scales (P, K / 32, 16), and outputs that fill P panels");
  require(
      x.dtype == aoti_torch_dtype_float32() && panels.dtype == aoti_torch_dtype_uint8() &&
          scales.dtype == aoti_torch_dtype_bfloat16(),
      "packed weights: x must be float32, panels uint8, scales bfloat16");
  const int64_t M = x.rows();
  AtenTensorHandle made = empty_like_but_last(x, N);
  if (M == 0) return made;
  float* y = floats(made);
  static thread_local Rounded rounded;  // its memory is used again
  rounded.assign(static_cast<const float*>(x.data), M, given, K);
  const Rounded& inputs = rounded;
  const Panels all{static_cast<const uint8_t*>(panels.data), static_cast<const uint16_t*>(scales.data), y, G, N};
  parallel_for(P, 1 + PIECE / (WIDTH * K * (M + 1)), [&](int64_t begin, int64_t end) {
    product<Format>(all, begin, end, inputs, M);
  });
  return made;
}

const Registration int8(
    "int8_linear", "int8_linear(Tensor x, Tensor panels, Tensor scales, int outputs) -> Tensor",
    boxed<3, 1, packed_linear<Int8>>);
const Registration int4(
    "int4_linear", "int4_linear(Tensor x, Tensor panels, Tensor scales, int outputs) -> Tensor",
    boxed<3, 1, packed_linear<Int4>>);

}  // namespace
}  // namespace muomni

extern "C" AOTI_TORCH_EXPORT AOTITorchError aoti_torch_cpu_int8_linear(
    AtenTensorHandle x, AtenTensorHandle panels, AtenTensorHandle scales, int64_t outputs, AtenTensorHandle* result) {
  return muomni::shim<3, 1, muomni::packed_linear<muomni::Int8>>({x, panels, scales}, {outputs}, result);
}

extern "C" AOTI_TORCH_EXPORT AOTITorchError aoti_torch_cpu_int4_linear(
    AtenTensorHandle x, AtenTensorHandle panels, AtenTensorHandle scales, int64_t outputs, AtenTensorHandle* result) {
  return muomni::shim<3, 1, muomni::packed_linear<muomni::Int4>>({x, panels, scales}, {outputs}, result);
}
