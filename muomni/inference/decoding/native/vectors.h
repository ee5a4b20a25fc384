// Vectors of float32 as wide as a register, by the extension of gcc and clang: one source for AVX-512, AVX2, NEON and SSE.
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace muomni {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(sizeof(T) * N)));
};
using Floats = VectorOf<float, LANES>::type;
using Words = VectorOf<uint32_t, LANES>::type;
using Halves = VectorOf<uint16_t, LANES>::type;

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <class V>
inline V read(const void* from) {  // of any alignment
  V v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <class To, class From>
inline To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline Floats load(const float* from) { return read<Floats>(from); }

inline Floats load(const BFloat16* from) {
  return bits_of<Floats>(__builtin_convertvector(read<Halves>(from), Words) << 16);
}

inline Floats load(const Half* from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(read<__m256i>(from));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(read<__m128i>(from));
#else  // a power of two moves the exponent's offset from 15 to 127, subnormal numbers included; infinity and NaN apart
  const Words half = __builtin_convertvector(read<Halves>(from), Words);
  const Words magnitude = (half & 0x7fff) << 13;
  const Words special = Words((half & 0x7c00) == 0x7c00) & 0x7f800000u;
  const Words sign = (half & 0x8000) << 16;
  return bits_of<Floats>(bits_of<Words>(bits_of<Floats>(magnitude) * 0x1p112f) | special | sign);
#endif
}

inline float value(float x) { return x; }

inline float value(BFloat16 x) { return bits_of<float>(uint32_t(x.bits) << 16); }

inline float value(Half x) {
  Half padded[LANES] = {x};
  return load(padded)[0];
}

// All numbers of a vector by an operation of two, half with half.
template <int N, class Operation>
inline float reduced(typename VectorOf<float, N>::type v, Operation operation) {
  if constexpr (N == 2) {
    return operation(v[0], v[1]);
  } else {
    using Part = typename VectorOf<float, N / 2>::type;
    struct Parts {
      Part low, high;
    };
    const Parts parts = bits_of<Parts>(v);
    return reduced<N / 2>(operation(parts.low, parts.high), operation);
  }
}

inline float sum(Floats v) {
  return reduced<LANES>(v, [](auto a, auto b) { return a + b; });
}

inline float largest(Floats v) {
  return reduced<LANES>(v, [](auto a, auto b) { return a > b ? a : b; });
}

inline Floats absolute(Floats v) { return bits_of<Floats>(bits_of<Words>(v) & 0x7fffffff); }

}  // namespace muomni
