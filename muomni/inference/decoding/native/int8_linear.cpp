// x @ weight.T with weights of 8 bits and a scale for each GROUP inputs: products of integers, and one multiplication in
// float32 a group.
//
// x is rounded to 15 bits, a scale for each row and group, so that nearly all of the error is the weights'.
//
// Layout of the weight: panels of WIDTH outputs (P, K / 4, WIDTH, 4) of the number + OFFSET, scales (P, K / GROUP, WIDTH) in
// bfloat16; K is a multiple of GROUP, N at most P * WIDTH. A panel is read front to back.
//
// Shapes: M rows of x, N outputs, K inputs (x may have fewer: what is missing is zero), P panels, G groups.

#include "int8_sums.h"
#include "tensors.h"

namespace muomni {
namespace {

constexpr int MAX_ROWS = 8;                  // whose sums fit into registers
constexpr int FEW_ROWS = 2;                  // the same for two panels
constexpr int64_t PIECE = int64_t(1) << 17;  // products that are worth a thread

// The numbers (P, G, QUADS, WIDTH, 4) and scales (P, G, WIDTH) of P panels, and where their N outputs of a row go.
struct Panels {
  const uint8_t* numbers;
  const uint16_t* scales;
  float* y;
  int64_t G, N;
};

// The outputs of S panels, `apart` from one to the next, for M rows from row m on.
template <int S, int M>
void outputs(Panels all, int64_t panel, int64_t apart, const Rounded& x, int64_t m) {
  Sums sums[S][M];
  for (auto& row : sums) {
    for (Sums& each : row) each = zero();
  }
  const uint8_t* at[S];
  const uint16_t* scales[S];
  for (int s = 0; s < S; ++s) {
    at[s] = all.numbers + (panel + s * apart) * all.G * GROUP * WIDTH;
    scales[s] = all.scales + (panel + s * apart) * all.G * WIDTH;
  }
  const int64_t G = all.G;
  for (int64_t g = 0; g < G; ++g) {
    const Inputs inputs = x.inputs(m, g, G);
    Whole whole[S][M];
#pragma GCC unroll 8
    for (int q = 0; q < QUADS; ++q) {
      Numbers weights[S];
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) weights[s] = numbers(at[s] + (g * QUADS + q) * WIDTH * 4);
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const Four given = four(inputs, i * inputs.K + q * 4);
#pragma GCC unroll 8
        for (int s = 0; s < S; ++s) whole[s][i].add(weights[s], given);
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
template <int S, int M>
void rows(int64_t count, const Panels& all, int64_t panel, int64_t apart, const Rounded& x, int64_t m) {
  if constexpr (M > 1) {
    if (count < M) return rows<S, M - 1>(count, all, panel, apart, x, m);
  }
  outputs<S, M>(all, panel, apart, x, m);
}

// The panels begin .. end for M rows. Few rows read two streams at a distance, which keeps more requests to memory under way.
void product(const Panels& all, int64_t begin, int64_t end, const Rounded& x, int64_t M) {
  const int64_t half = M <= FEW_ROWS ? (end - begin) / 2 : 0;
  for (int64_t panel = begin; panel < begin + half; ++panel) rows<2, FEW_ROWS>(M, all, panel, half, x, 0);
  for (int64_t panel = begin + 2 * half; panel < end; ++panel) {
    for (int64_t m = 0; m < M; m += MAX_ROWS) {
      rows<1, MAX_ROWS>(M - m < MAX_ROWS ? M - m : MAX_ROWS, all, panel, 0, x, m);
    }
  }
}

AtenTensorHandle int8_linear(
    const std::array<AtenTensorHandle, 3>& handles, const std::array<int64_t, 1>& integers) {
  const View x(handles[0], "x"), panels(handles[1], "panels"), scales(handles[2], "scales");
  require(
      x.dim >= 1 && panels.dim == 4 && panels.sizes[2] == WIDTH && panels.sizes[3] == 4,
      "int8_linear: x (..., K) and panels (P, K / 4, 16, 4)");
  const int64_t P = panels.sizes[0], K = panels.sizes[1] * 4, G = K / GROUP, N = integers[0], given = x.last();
  require(
      K % GROUP == 0 && K - GROUP < given && given <= K, "int8_linear: K must be that of x, rounded up to a multiple of 32");
  require(
      scales.numel() == P * G * WIDTH && (P - 1) * WIDTH < N && N <= P * WIDTH,
      "int8_linear: scales (P, K / 32, 16), and outputs that fill P panels");
  require(
      x.dtype == aoti_torch_dtype_float32() && panels.dtype == aoti_torch_dtype_uint8() &&
          scales.dtype == aoti_torch_dtype_bfloat16(),
      "int8_linear: x must be float32, panels uint8, scales bfloat16");
  const int64_t M = x.rows();
  AtenTensorHandle made = empty_like_but_last(x, N);
  if (M == 0) return made;
  float* y = floats(made);
  static thread_local Rounded rounded;  // its memory is used again
  rounded.assign(static_cast<const float*>(x.data), M, given, K);
  const Rounded& inputs = rounded;
  const Panels all{static_cast<const uint8_t*>(panels.data), static_cast<const uint16_t*>(scales.data), y, G, N};
  parallel_for(P, 1 + PIECE / (WIDTH * K * (M + 1)), [&](int64_t begin, int64_t end) {
    product(all, begin, end, inputs, M);
  });
  return made;
}

const Registration registration(
    "int8_linear", "int8_linear(Tensor x, Tensor panels, Tensor scales, int outputs) -> Tensor",
    boxed<3, 1, int8_linear>);

}  // namespace
}  // namespace muomni

extern "C" AOTI_TORCH_EXPORT AOTITorchError aoti_torch_cpu_int8_linear(
    AtenTensorHandle x, AtenTensorHandle panels, AtenTensorHandle scales, int64_t outputs, AtenTensorHandle* result) {
  return muomni::shim<3, 1, muomni::int8_linear>({x, panels, scales}, {outputs}, result);
}
