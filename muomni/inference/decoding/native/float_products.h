// x @ weight.T for few rows: a weight is read once, front to back, and widened to float32 in registers.
//
// One row reads every weight for two operations, so it takes as long as memory does; the library's product packs or blocks
// first. Two streams at a distance keep more requests under way than one does.
//
// Shapes: M rows of x, N outputs, K inputs.
#pragma once

#include "tensors.h"
#include "vectors.h"

namespace muomni {

constexpr int MAX_ROWS = 8;             // whose sums fit into registers
constexpr int64_t PIECE = int64_t(1) << 16;  // products that are worth a thread

// The products of S rows of the weight with M of x.
template <class W, int S, int M>
inline void dots(const W* const (&weight)[S], const float* x, int64_t K, float (&sums)[S][M]) {
  constexpr int CHAINS = S * M >= 4 ? 1 : 4 / (S * M);  // a sum waits for the one before it: four at a time
  constexpr int STEP = CHAINS * LANES;
  Floats chains[S][M][CHAINS] = {};
  int64_t k = 0;
  for (; k + STEP <= K; k += STEP) {
#pragma GCC unroll 8
    for (int c = 0; c < CHAINS; ++c) {
      Floats inputs[M];
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) inputs[m] = load(x + m * K + k + c * LANES);
#pragma GCC unroll 8
      for (int s = 0; s < S; ++s) {
        const Floats w = load(weight[s] + k + c * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) chains[s][m][c] += w * inputs[m];
      }
    }
  }
#pragma GCC unroll 8
  for (int s = 0; s < S; ++s) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      Floats all = chains[s][m][0];
#pragma GCC unroll 8
      for (int c = 1; c < CHAINS; ++c) all += chains[s][m][c];
      sums[s][m] = sum(all);
      for (int64_t j = k; j < K; ++j) sums[s][m] += value(weight[s][j]) * x[m * K + j];
    }
  }
}

template <class W, int M>
void outputs(const W* weight, const float* x, float* y, int64_t N, int64_t K, int64_t begin, int64_t end) {
  const int64_t half = (end - begin) / 2;
  for (int64_t n = begin; n < begin + half; ++n) {
    float sums[2][M];
    dots<W, 2, M>({weight + n * K, weight + (n + half) * K}, x, K, sums);
    for (int m = 0; m < M; ++m) {
      y[m * N + n] = sums[0][m];
      y[m * N + n + half] = sums[1][m];
    }
  }
  for (int64_t n = begin + 2 * half; n < end; ++n) {
    float sums[1][M];
    dots<W, 1, M>({weight + n * K}, x, K, sums);
    for (int m = 0; m < M; ++m) y[m * N + n] = sums[0][m];
  }
}

template <class W, int M = MAX_ROWS>
void rows(int64_t count, const W* weight, const float* x, float* y, int64_t N, int64_t K) {
  if constexpr (M > 1) {
    if (count < M) return rows<W, M - 1>(count, weight, x, y, N, K);
  }
  parallel_for(N, 1 + PIECE / (M * (K + 1)), [=](int64_t begin, int64_t end) {
    outputs<W, M>(weight, x, y, N, K, begin, end);
  });
}

template <class W>
void product(const void* weight, const float* x, float* y, int64_t M, int64_t N, int64_t K) {
  for (int64_t m = 0; m < M; m += MAX_ROWS) {
    const int64_t count = M - m < MAX_ROWS ? M - m : MAX_ROWS;
    rows<W>(count, static_cast<const W*>(weight), x + m * K, y + m * N, N, K);
  }
}

}  // namespace muomni
