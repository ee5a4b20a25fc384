// Sums of products of int8_linear for WIDTH outputs, by each set of instructions that has more than the compiler makes of
// C++.
//
// Whole are the integers of one group, Sums the float32 numbers of all groups; Four are inputs, and Numbers the weights
// (WIDTH, 4) that they are multiplied by.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "rounded.h"

namespace muomni {

constexpr int WIDTH = 16;

#if defined(__AVX512VNNI__)

using Sums = __m512;
using Numbers = __m512i;

inline Sums zero() { return _mm512_setzero_ps(); }
inline void store(float* to, Sums sums) { _mm512_storeu_ps(to, sums); }
inline Numbers numbers(const uint8_t* from) { return _mm512_loadu_si512(from); }

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
using Numbers = const uint8_t*;

inline Sums zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Numbers numbers(const uint8_t* from) { return from; }

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

  void add(Numbers weights, const Four& x) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + i * 16));
      parts[i] = _mm256_add_epi32(parts[i], _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), x.inputs));
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
using Numbers = const uint8_t*;
using Four = const int16_t*;

inline Sums zero() { return {}; }
inline void store(float* to, const Sums& sums) { std::memcpy(to, sums.each, sizeof(sums.each)); }
inline Numbers numbers(const uint8_t* from) { return from; }

struct Whole {
  int32_t each[WIDTH] = {};

  void add(Numbers weights, Four x) {
    for (int n = 0; n < WIDTH; ++n) {
      for (int i = 0; i < 4; ++i) each[n] += weights[n * 4 + i] * x[i];
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

inline Four four(const Inputs& x, int64_t at) {
#if defined(__AVX2__)
  return Four(x, at);
#else
  return x.whole + at;
#endif
}

}  // namespace muomni
