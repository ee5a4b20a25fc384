// Sums of products with packed weights for WIDTH outputs, by each set of instructions that has more than the compiler makes
// of C++.
//
// Whole are the integers of one group, Sums the float32 numbers of all groups; Four are inputs, and Numbers the weights
// (WIDTH, 4) that they are multiplied by, a byte each, whatever they were read from.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "rounded.h"

namespace muomni {

constexpr int WIDTH = 16;
constexpr int LINE = WIDTH * 4;  // bytes that are read at once

// How weights are kept. PER_LINE: Numbers that a line holds.
struct Int8 {
  static constexpr int PER_LINE = 1;
};
// The lower half of a byte belongs to the first four inputs, the upper one to the next four.
struct Int4 {
  static constexpr int PER_LINE = 2;
};
// What the 16 numbers of 4 bits stand for, plus OFFSET.
alignas(16) constexpr uint8_t LEVELS[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

#if defined(__AVX512VNNI__)

using Sums = __m512;
using Numbers = __m512i;

inline Sums zero() { return _mm512_setzero_ps(); }
inline void store(float* to, Sums sums) { _mm512_storeu_ps(to, sums); }
inline void unpack(Int8, const uint8_t* line, Numbers (&to)[1]) { to[0] = _mm512_loadu_si512(line); }

inline void unpack(Int4, const uint8_t* line, Numbers (&to)[2]) {
  const __m512i levels = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(LEVELS)));
  const __m512i both = _mm512_loadu_si512(line), half = _mm512_set1_epi8(15);
  to[0] = _mm512_shuffle_epi8(levels, _mm512_and_si512(both, half));
  to[1] = _mm512_shuffle_epi8(levels, _mm512_and_si512(_mm512_srli_epi16(both, 4), half));
}

inline __m512i broadcast(const int8_t* four) {
  int32_t bits;
  std::memcpy(&bits, four, sizeof(bits));
  return _mm512_set1_epi32(bits);
}

struct Four {
  __m512i high, low;
  Four(const Inputs& x, int64_t at) : high(broadcast(x.high + at)), low(broadcast(x.low + at)) {}
};

struct Whole {
  __m512i high = _mm512_setzero_si512(), low = _mm512_setzero_si512();

  void add(Numbers weights, const Four& x) {
    high = _mm512_dpbusd_epi32(high, weights, x.high);
    low = _mm512_dpbusd_epi32(low, weights, x.low);
  }
  Sums scaled(Sums sums, const uint16_t* scales, float factor, int32_t correction) const {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
    const __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(high, 7), _mm512_add_epi32(low, _mm512_set1_epi32(correction)));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), _mm512_mul_ps(scale, _mm512_set1_ps(factor)), sums);
  }
};

#elif defined(__AVX2__)

struct Sums {
  __m256 each[2];  // outputs 0 .. 7, 8 .. 15
};
struct Numbers {
  __m128i each[4];  // of four outputs
};

inline Sums zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }

inline __m128i part(const uint8_t* line, int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(line) + i); }

inline void unpack(Int8, const uint8_t* line, Numbers (&to)[1]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) to[0].each[i] = part(line, i);
}

inline void unpack(Int4, const uint8_t* line, Numbers (&to)[2]) {
  const __m128i levels = _mm_load_si128(reinterpret_cast<const __m128i*>(LEVELS)), half = _mm_set1_epi8(15);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m128i both = part(line, i);
    to[0].each[i] = _mm_shuffle_epi8(levels, _mm_and_si128(both, half));
    to[1].each[i] = _mm_shuffle_epi8(levels, _mm_and_si128(_mm_srli_epi16(both, 4), half));
  }
}

inline void store(float* to, const Sums& sums) {
  _mm256_storeu_ps(to, sums.each[0]);
  _mm256_storeu_ps(to + 8, sums.each[1]);
}

struct Four {
  __m256i inputs;
  Four(const Inputs& x, int64_t at) {
    int64_t bits;
    std::memcpy(&bits, x.whole + at, sizeof(bits));
    inputs = _mm256_set1_epi64x(bits);
  }
};

struct Whole {
  __m256i parts[4] = {};  // of four outputs each, two sums an output

  void add(const Numbers& weights, const Four& x) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      parts[i] = _mm256_add_epi32(parts[i], _mm256_madd_epi16(_mm256_cvtepu8_epi16(weights.each[i]), x.inputs));
    }
  }
  Sums scaled(Sums sums, const uint16_t* scales, float factor, int32_t correction) const {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m256i joined = _mm256_permute4x64_epi64(_mm256_hadd_epi32(parts[2 * i], parts[2 * i + 1]), 0xd8);
      const __m256 whole = _mm256_cvtepi32_ps(_mm256_add_epi32(joined, _mm256_set1_epi32(correction)));
      const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + i * 8)));
      const __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
      sums.each[i] = _mm256_fmadd_ps(whole, _mm256_mul_ps(scale, _mm256_set1_ps(factor)), sums.each[i]);
    }
    return sums;
  }
};

#else

struct Sums {
  float each[WIDTH];
};
struct Numbers {
  uint8_t each[LINE];
};

inline Sums zero() { return {}; }
inline void store(float* to, const Sums& sums) { std::memcpy(to, sums.each, sizeof(sums.each)); }

inline void unpack(Int8, const uint8_t* line, Numbers (&to)[1]) { std::memcpy(to[0].each, line, LINE); }

inline void unpack(Int4, const uint8_t* line, Numbers (&to)[2]) {
  for (int i = 0; i < LINE; ++i) {
    to[0].each[i] = LEVELS[line[i] & 15];
    to[1].each[i] = LEVELS[line[i] >> 4];
  }
}

struct Four {
  const int16_t* inputs;
  Four(const Inputs& x, int64_t at) : inputs(x.whole + at) {}
};

struct Whole {
  int32_t each[WIDTH] = {};

  void add(const Numbers& weights, const Four& x) {
    for (int n = 0; n < WIDTH; ++n) {
      for (int i = 0; i < 4; ++i) each[n] += weights.each[n * 4 + i] * x.inputs[i];
    }
  }
  Sums scaled(Sums sums, const uint16_t* scales, float factor, int32_t correction) const {
    for (int n = 0; n < WIDTH; ++n) {
      const uint32_t bits = uint32_t(scales[n]) << 16;
      float scale;
      std::memcpy(&scale, &bits, sizeof(scale));
      sums.each[n] += float(each[n] + correction) * (scale * factor);
    }
    return sums;
  }
};

#endif

}  // namespace muomni
