// x @ weight.T with weights of 8 bits and a scale for each GROUP inputs: products of integers, and one multiplication in float32 a
// group.
//
// x is rounded to 15 bits, a scale for each row and group, so that nearly all of the error is the weights'. Numbers of 15 bits are
// two of 8 for the instructions that multiply bytes, which a processor has more of than it has memory bandwidth.
//
// Layout of the weight: panels of WIDTH outputs (P, K / 4, WIDTH, 4) of the number + OFFSET, scales (P, K / GROUP, WIDTH) in bfloat16;
// K is a multiple of GROUP, N at most P * WIDTH. A panel is read front to back.
//
// Shapes: M rows of x, N outputs, K inputs (x may have fewer: what is missing is zero), P panels, G groups.

#include <cmath>
#include <vector>

#include "tensors.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace muomni {
namespace {

constexpr int WIDTH = 16, GROUP = 32, QUADS = GROUP / 4;
constexpr int OFFSET = 128;          // the instructions take one of the two numbers without sign
constexpr int LARGEST = 127 * 128 + 63;  // of x: high * 128 + low, low in -64 .. 63
constexpr int MAX_ROWS = 8;          // whose sums fit into registers
constexpr int64_t PIECE = int64_t(1) << 17;  // products that are worth a thread

// One group of rows of x, each K numbers and G groups after the one before.
struct Inputs {
  const int16_t* whole;
  const int8_t *high, *low;
  const float* scale;
  const int32_t* correction;
  int64_t K, G;
};

// x in integers.
struct Rounded {
  std::vector<int16_t> whole;       // M K
  std::vector<int8_t> high, low;    // M K
  std::vector<float> scale;         // M G
  std::vector<int32_t> correction;  // M G: what OFFSET adds to a sum of products, negative

  void assign(const float* x, int64_t M, int64_t given, int64_t K) {
    const int64_t G = K / GROUP;
    whole.resize(M * K), high.resize(M * K), low.resize(M * K), scale.resize(M * G), correction.resize(M * G);
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t g = 0; g < G; ++g) {
        float group[GROUP] = {};
        const int64_t begin = g * GROUP, count = given - begin < GROUP ? given - begin : GROUP;
        std::memcpy(group, x + m * given + begin, count * sizeof(float));
        round(group, m * K + begin, m * G + g);
      }
    }
  }

  Inputs inputs(int64_t m, int64_t g, int64_t G) const {
    const int64_t at = (m * G + g) * GROUP, index = m * G + g;
    return {whole.data() + at, high.data() + at, low.data() + at, &scale[index], &correction[index], G * GROUP, G};
  }

 private:
  void round(const float (&group)[GROUP], int64_t at, int64_t index) {
    float largest = 0;
    for (float number : group) largest = std::fabs(number) > largest ? std::fabs(number) : largest;
    const float inverse = largest > 0 ? LARGEST / largest : 0;
    // NaN compares as false and infinity times its inverse is NaN: either makes the scale NaN, and so the result.
    float poison = 0;
    for (float number : group) poison += number * 0;
    int32_t total = 0;
    for (int i = 0; i < GROUP; ++i) {
      const int32_t number = poison == 0 ? int32_t(std::nearbyint(group[i] * inverse)) : 0;
      const int32_t upper = (number + 64) >> 7;
      whole[at + i] = int16_t(number), high[at + i] = int8_t(upper), low[at + i] = int8_t(number - upper * 128);
      total += number;
    }
    scale[index] = largest / LARGEST + poison;
    correction[index] = -OFFSET * total;
  }
};

// Numbers (G, QUADS, WIDTH, 4) and scales (G, WIDTH) of WIDTH outputs.
struct Panel {
  const uint8_t* numbers;
  const uint16_t* scales;
  int64_t G;
};

#if defined(__AVX512VNNI__)

using Sums = __m512;
inline Sums zero() { return _mm512_setzero_ps(); }
inline void store(float* to, Sums sums) { _mm512_storeu_ps(to, sums); }

inline __m512i four(const int8_t* from) {
  int32_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return _mm512_set1_epi32(bits);
}

inline __m512 widened(const uint16_t* scales) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)scales)), 16));
}

// Adds the products of one group for M rows.
template <int M>
inline void add(const uint8_t* weights, const uint16_t* scales, const Inputs& x, Sums (&sums)[M]) {
  const __m512 scale = widened(scales);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    __m512i low = _mm512_set1_epi32(x.correction[m * x.G]), high = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int q = 0; q < QUADS; ++q) {
      const __m512i numbers = _mm512_loadu_si512(weights + q * WIDTH * 4);
      high = _mm512_dpbusd_epi32(high, numbers, four(x.high + m * x.K + q * 4));
      low = _mm512_dpbusd_epi32(low, numbers, four(x.low + m * x.K + q * 4));
    }
    const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
    const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(x.scale[m * x.G]));
    sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), factor, sums[m]);
  }
}

#elif defined(__AVX2__)

struct Sums {
  __m256 first, second;  // outputs 0 .. 7, 8 .. 15
};
inline Sums zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline void store(float* to, Sums sums) { _mm256_storeu_ps(to, sums.first), _mm256_storeu_ps(to + 8, sums.second); }

inline __m256 widened(const uint16_t* scales) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)scales)), 16));
}

// Two registers with two sums for each of four outputs -> one with eight outputs.
inline __m256i joined(__m256i first, __m256i second) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(first, second), 0xd8);
}

template <int M>
inline void add(const uint8_t* weights, const uint16_t* scales, const Inputs& x, Sums (&sums)[M]) {
  const __m256 first = widened(scales), second = widened(scales + 8);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    __m256i parts[4] = {};
#pragma GCC unroll 8
    for (int q = 0; q < QUADS; ++q) {
      int64_t bits;
      std::memcpy(&bits, x.whole + m * x.K + q * 4, sizeof(bits));
      const __m256i inputs = _mm256_set1_epi64x(bits);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m128i bytes = _mm_loadu_si128((const __m128i*)(weights + q * WIDTH * 4 + i * 16));
        parts[i] = _mm256_add_epi32(parts[i], _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), inputs));
      }
    }
    const __m256i correction = _mm256_set1_epi32(x.correction[m * x.G]);
    const __m256 factor = _mm256_set1_ps(x.scale[m * x.G]);
    const __m256 low = _mm256_cvtepi32_ps(_mm256_add_epi32(joined(parts[0], parts[1]), correction));
    const __m256 high = _mm256_cvtepi32_ps(_mm256_add_epi32(joined(parts[2], parts[3]), correction));
    sums[m].first = _mm256_fmadd_ps(low, _mm256_mul_ps(first, factor), sums[m].first);
    sums[m].second = _mm256_fmadd_ps(high, _mm256_mul_ps(second, factor), sums[m].second);
  }
}

#else

struct Sums {
  float each[WIDTH];
};
inline Sums zero() { return {}; }
inline void store(float* to, const Sums& sums) { std::memcpy(to, sums.each, sizeof(sums.each)); }

template <int M>
inline void add(const uint8_t* weights, const uint16_t* scales, const Inputs& x, Sums (&sums)[M]) {
  for (int m = 0; m < M; ++m) {
    int32_t whole[WIDTH];
    for (int n = 0; n < WIDTH; ++n) whole[n] = x.correction[m * x.G];
    for (int q = 0; q < QUADS; ++q) {
      const int16_t* inputs = x.whole + m * x.K + q * 4;
      for (int n = 0; n < WIDTH; ++n) {
        for (int i = 0; i < 4; ++i) whole[n] += weights[(q * WIDTH + n) * 4 + i] * inputs[i];
      }
    }
    for (int n = 0; n < WIDTH; ++n) {
      const uint32_t bits = uint32_t(scales[n]) << 16;
      float scale;
      std::memcpy(&scale, &bits, sizeof(scale));
      sums[m].each[n] += float(whole[n]) * (scale * x.scale[m * x.G]);
    }
  }
}

#endif

// A panel's outputs of M rows, from row m on.
template <int M = MAX_ROWS>
void rows(int64_t count, const Panel& panel, const Rounded& x, int64_t m, float* y, int64_t outputs, int64_t N) {
  if constexpr (M > 1) {
    if (count < M) return rows<M - 1>(count, panel, x, m, y, outputs, N);
  }
  Sums sums[M];
  for (Sums& each : sums) each = zero();
  for (int64_t g = 0; g < panel.G; ++g) {
    add<M>(panel.numbers + g * GROUP * WIDTH, panel.scales + g * WIDTH, x.inputs(m, g, panel.G), sums);
  }
  for (int i = 0; i < M; ++i) {
    float all[WIDTH];
    store(all, sums[i]);
    std::memcpy(y + (m + i) * N, all, outputs * sizeof(float));
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
      scales.numel == P * G * WIDTH && (P - 1) * WIDTH < N && N <= P * WIDTH,
      "int8_linear: scales (P, K / 32, 16), and outputs that fill P panels");
  require(
      x.dtype == aoti_torch_dtype_float32() && panels.dtype == aoti_torch_dtype_uint8() &&
          scales.dtype == aoti_torch_dtype_bfloat16(),
      "int8_linear: x must be float32, panels uint8, scales bfloat16");
  const int64_t M = x.numel / given;
  AtenTensorHandle made = empty_like_but_last(x, N);
  float* y = static_cast<float*>(View(made, "y").data);
  static thread_local Rounded rounded;  // its memory is used again
  rounded.assign(static_cast<const float*>(x.data), M, given, K);
  const Rounded& inputs = rounded;
  const auto* weights = static_cast<const uint8_t*>(panels.data);
  const auto* factors = static_cast<const uint16_t*>(scales.data);
  parallel_for(P, 1 + PIECE / (WIDTH * K * (M + 1)), [=, &inputs](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const Panel panel{weights + p * WIDTH * K, factors + p * WIDTH * G, G};
      const int64_t outputs = N - p * WIDTH < WIDTH ? N - p * WIDTH : WIDTH;
      for (int64_t m = 0; m < M; m += MAX_ROWS) {
        rows(M - m < MAX_ROWS ? M - m : MAX_ROWS, panel, inputs, m, y + p * WIDTH, outputs, N);
      }
    }
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
