// One token of one row through a block of a transformer (nn/transformer.py), which a cache of keys and values goes with:
// RMSNorm, a short convolution or none, attention with rotary positions and norms of its heads or none, SwiGLU, each added to
// what entered.
//
// A small network spends its time between the kernels of such a step, not in them: here there is nothing between them.
//
// Shapes: D width, H query heads, G key-value heads, K head width, C capacity of the cache, F inner width, W short convolution.

#include <algorithm>
#include <cmath>
#include <vector>

#include "float_products.h"

namespace muomni {
namespace {

inline float dot(const float* a, const float* b, int64_t count) {
  Floats sums = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sums += load(a + i) * load(b + i);
  float all = sum(sums);
  for (; i < count; ++i) all += a[i] * b[i];
  return all;
}

inline void add(float* to, const float* from, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

// e to each of `count` numbers up to 0, to a few units in the last place (the polynomial of Cephes' expf).
void exponentials(float* x, int64_t count) {
  constexpr float LEAST = -87.0f, ROUNDER = 12582912.0f;  // 1.5 * 2^23: added, it leaves no digits after the point
  for (int64_t i = 0; i < count; i += LANES) {
    float padded[LANES] = {};
    const int64_t some = std::min<int64_t>(LANES, count - i);
    std::memcpy(padded, x + i, some * sizeof(float));
    Floats v = load(padded);
    v = v > LEAST ? v : Floats{} + LEAST;
    const Floats shifted = v * 1.44269504088896341f + ROUNDER, n = shifted - ROUNDER;
    const Floats r = v - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const Floats power = bits_of<Floats>((bits_of<Words>(shifted) << 23) + 0x3f800000u);  // 2^n
    const Floats found = (p * r * r + r + 1.0f) * power;
    std::memcpy(x + i, &found, some * sizeof(float));
  }
}

void rms_norm(const float* x, const float* weight, float eps, int64_t D, float* y) {
  const float scale = 1.0f / std::sqrt(dot(x, x, D) / float(D) + eps);
  for (int64_t i = 0; i < D; ++i) y[i] = x[i] * scale * weight[i];
}

// A norm of the same weight (K) for each head.
void norm_heads(float* x, const float* weight, float eps, int64_t heads, int64_t K) {
  for (int64_t h = 0; h < heads; ++h, x += K) rms_norm(x, weight, eps, K, x);
}

// ShortConv of the token at `position`: x (D) is kept among the inputs (C, D) and mixed with those before it, by weight (W, D).
void short_conv(float* x, const float* weight, float* inputs, int64_t position, int64_t W, int64_t D) {
  std::memcpy(inputs + position * D, x, D * sizeof(float));
  for (int64_t i = 0; i < D; ++i) x[i] *= weight[i];
  for (int64_t w = 1; w < std::min(W, position + 1); ++w) {
    const float *earlier = inputs + (position - w) * D, *tap = weight + w * D;
    for (int64_t i = 0; i < D; ++i) x[i] += tap[i] * earlier[i];
  }
}

// Turns the pairs (x[i], x[i + K / 2]) of each head.
void rotate(float* x, const float* cosine, const float* sine, int64_t heads, int64_t K) {
  const int64_t half = K / 2;
  for (int64_t h = 0; h < heads; ++h, x += K) {
    for (int64_t i = 0; i < half; ++i) {
      const float first = x[i], second = x[i + half];
      x[i] = first * cosine[i] - second * sine[i];
      x[i + half] = second * cosine[i] + first * sine[i];
    }
  }
}

// Attention of one query (K) to the first `count` keys and values (count, K) -> mixed (K). scores: memory for `count`.
void attend(
    const float* query, const float* keys, const float* values, int64_t count, int64_t K, float* scores, float* mixed) {
  const float scale = 1.0f / std::sqrt(float(K));
  float most = -INFINITY;
  for (int64_t t = 0; t < count; ++t) {
    scores[t] = scale * dot(query, keys + t * K, K);
    most = std::max(most, scores[t]);
  }
  for (int64_t t = 0; t < count; ++t) scores[t] -= most;
  exponentials(scores, count);
  float total = 0;
  std::fill(mixed, mixed + K, 0.0f);
  for (int64_t t = 0; t < count; ++t) {
    total += scores[t];
    add(mixed, values + t * K, scores[t], K);
  }
  for (int64_t i = 0; i < K; ++i) mixed[i] /= total;
}

// gate_up (2 F) -> silu of its first half times the second, in its first half. other: memory for F.
void gated(float* gate_up, float* other, int64_t F) {
  for (int64_t i = 0; i < F; ++i) other[i] = -std::fabs(gate_up[i]);
  exponentials(other, F);
  for (int64_t i = 0; i < F; ++i) {
    const float gate = gate_up[i], sigmoid = (gate < 0 ? other[i] : 1.0f) / (1.0f + other[i]);
    gate_up[i] = gate * sigmoid * gate_up[F + i];
  }
}

// The double whose bits an integer has.
double real(int64_t bits) {
  double number = 0;
  std::memcpy(&number, &bits, sizeof(number));
  return number;
}

// x (1, 1, D), the block's weights, cos and sin (K / 2) of its position, keys, values (1, G, C, K) and inputs (1, C, D), which
// are written at the position -> (1, 1, D). Empty are query_norm and key_norm without norms of heads, conv without a short
// convolution. The last two integers have the bits of the norms' epsilons: of the block's, of the heads'.
AtenTensorHandle row_block(const std::array<AtenTensorHandle, 15>& handles, const std::array<int64_t, 3>& integers) {
  const View x(handles[0], "x"), attention_norm(handles[1], "attention_norm"), qkv(handles[2], "qkv"), out(handles[3], "out"),
      mlp_norm(handles[4], "mlp_norm"), gate_up(handles[5], "gate_up"), down(handles[6], "down"),
      query_norm(handles[7], "query_norm"), key_norm(handles[8], "key_norm"), conv(handles[9], "conv"), cosine(handles[10], "cos"),
      sine(handles[11], "sin"), keys(handles[12], "keys"), values(handles[13], "values"), inputs(handles[14], "inputs");
  for (const View* each : {&x, &attention_norm, &qkv, &out, &mlp_norm, &gate_up, &down, &query_norm, &key_norm, &conv, &cosine,
                           &sine, &keys, &values, &inputs}) {
    require(each->dtype == aoti_torch_dtype_float32(), "row_block: all tensors must be float32");
  }
  require(keys.dim == 4 && values.dim == 4 && keys.sizes[0] == 1, "row_block: keys and values (1, G, C, K)");
  const int64_t D = x.last(), G = keys.sizes[1], C = keys.sizes[2], K = keys.sizes[3], F = down.last();
  const int64_t H = qkv.sizes[0] / K - 2 * G, position = integers[0], W = conv.numel() / D, head_norms = query_norm.numel();
  require(x.numel() == D && attention_norm.numel() == D && mlp_norm.numel() == D, "row_block: x (1, 1, D), norms (D)");
  require(H > 0 && H % G == 0 && qkv.numel() == (H + 2 * G) * K * D, "row_block: qkv ((H + 2 G) K, D)");
  require(out.numel() == D * H * K && out.last() == H * K, "row_block: out (D, H K)");
  require(gate_up.numel() == 2 * F * D && down.numel() == D * F, "row_block: gate_up (2 F, D), down (D, F)");
  require(values.numel() == keys.numel() && cosine.numel() == K / 2 && sine.numel() == K / 2, "row_block: cos, sin (K / 2)");
  require((head_norms == K || !head_norms) && key_norm.numel() == head_norms, "row_block: query_norm and key_norm (K), or empty");
  require(conv.numel() == W * D && (!W || inputs.numel() == C * D), "row_block: conv (W, D) with inputs (1, C, D), or empty");
  require(0 <= position && position < C, "row_block: the position must be in the cache");
  const float eps = float(real(integers[1])), head_eps = float(real(integers[2]));

  static thread_local std::vector<float> memory;  // used again
  memory.resize(D + (H + 2 * G) * K + H * K + C + 2 * F + F);
  float* normed = memory.data();
  float* heads = normed + D;
  float* mixed = heads + (H + 2 * G) * K;
  float* scores = mixed + H * K;
  float* inner = scores + C;
  const auto weights = [](const View& view) { return static_cast<const float*>(view.data); };

  AtenTensorHandle made = empty_like_but_last(x, D);
  float* y = floats(made);
  rms_norm(weights(x), weights(attention_norm), eps, D, normed);
  if (W) short_conv(normed, weights(conv), static_cast<float*>(inputs.data), position, W, D);
  product<float>(qkv.data, normed, heads, 1, (H + 2 * G) * K, D);
  if (head_norms) {
    norm_heads(heads, weights(query_norm), head_eps, H, K);
    norm_heads(heads + H * K, weights(key_norm), head_eps, G, K);
  }
  rotate(heads, weights(cosine), weights(sine), H + G, K);
  auto* all_keys = static_cast<float*>(keys.data);
  auto* all_values = static_cast<float*>(values.data);
  for (int64_t g = 0; g < G; ++g) {
    std::memcpy(all_keys + (g * C + position) * K, heads + (H + g) * K, K * sizeof(float));
    std::memcpy(all_values + (g * C + position) * K, heads + (H + G + g) * K, K * sizeof(float));
  }
  for (int64_t h = 0; h < H; ++h) {
    const int64_t first = h / (H / G) * C * K;
    attend(heads + h * K, all_keys + first, all_values + first, position + 1, K, scores, mixed + h * K);
  }
  product<float>(out.data, mixed, y, 1, D, H * K);
  add(y, weights(x), 1.0f, D);
  rms_norm(y, weights(mlp_norm), eps, D, normed);
  product<float>(gate_up.data, normed, inner, 1, 2 * F, D);
  gated(inner, inner + 2 * F, F);
  product<float>(down.data, inner, normed, 1, D, F);
  add(y, normed, 1.0f, D);
  return made;
}

const Registration registration(
    "row_block",
    "row_block(Tensor x, Tensor attention_norm, Tensor qkv, Tensor out, Tensor mlp_norm, Tensor gate_up, Tensor down, "
    "Tensor query_norm, Tensor key_norm, Tensor conv, Tensor cos, Tensor sin, Tensor(a!) keys, Tensor(b!) values, "
    "Tensor(c!) inputs, int position, float eps, float head_eps) -> Tensor",
    boxed<15, 3, row_block>);

}  // namespace
}  // namespace muomni
