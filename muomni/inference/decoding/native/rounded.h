// The input of a product with packed weights in integers of 15 bits, a scale for each row and group.
//
// Numbers of 15 bits are also kept as two of 8, for the instructions that multiply bytes.
#pragma once

#include <vector>

#include "vectors.h"

namespace muomni {

constexpr int GROUP = 32, QUADS = GROUP / 4;
constexpr int OFFSET = 128;              // of the weights as they are kept: the instructions take one factor without sign
constexpr int LARGEST = 127 * 128 + 63;  // high * 128 + low, low in -64 .. 63

using Integers = VectorOf<int32_t, LANES>::type;

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
    whole.resize(M * K);
    high.resize(M * K);
    low.resize(M * K);
    scale.resize(M * G);
    correction.resize(M * G);
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
  // NaN and infinity make the scale NaN, whatever the numbers are, and so the result.
  void round(const float (&group)[GROUP], int64_t at, int64_t index) {
    constexpr int PARTS = GROUP / LANES;
    Floats most = {}, nothing = {}, total = {};
    for (int p = 0; p < PARTS; ++p) {
      const Floats x = load(group + p * LANES), size = absolute(x);
      most = size > most ? size : most;
      nothing += x * 0;
    }
    const float size = largest(most), inverse = size > 0 ? LARGEST / size : 0;
    for (int p = 0; p < PARTS; ++p) {
      constexpr float MAGIC = 0x1.8p23f;  // a number of its size has no fraction left
      const Floats rounded = (load(group + p * LANES) * inverse + MAGIC) - MAGIC;
      const Integers number = __builtin_convertvector(rounded, Integers), upper = (number + 64) >> 7;
      const int64_t first = at + p * LANES;
      keep<int16_t>(&whole[first], number);
      keep<int8_t>(&high[first], upper);
      keep<int8_t>(&low[first], number - upper * 128);
      total += rounded;
    }
    scale[index] = size / LARGEST + sum(nothing);
    const float all = sum(total) * -OFFSET;  // exact: integers below 2^24, and a power of two
    correction[index] = all > -0x1p30f && all < 0x1p30f ? int32_t(all) : 0;
  }

  template <class T>
  static void keep(T* to, Integers numbers) {
    const auto narrow = __builtin_convertvector(numbers, typename VectorOf<T, LANES>::type);
    std::memcpy(to, &narrow, sizeof(narrow));
  }
};

}  // namespace muomni
