// x @ weight.T for few rows (float_products.h), by itself.
//
// Shapes: M rows of x, N outputs, K inputs.

#include "float_products.h"

namespace muomni {
namespace {

AtenTensorHandle float_linear(const std::array<AtenTensorHandle, 2>& handles, const std::array<int64_t, 0>&) {
  const View x(handles[0], "x"), weight(handles[1], "weight");
  require(x.dim >= 1 && weight.dim == 2 && x.last() == weight.last(), "float_linear: x (..., K) and weight (N, K)");
  require(x.dtype == aoti_torch_dtype_float32(), "float_linear: x must be float32");
  const int64_t K = x.last(), N = weight.sizes[0], M = x.rows();
  require(K > 0, "float_linear: K must be 1 or more");
  AtenTensorHandle made = empty_like_but_last(x, N);
  float* y = floats(made);
  const auto* in = static_cast<const float*>(x.data);
  if (weight.dtype == aoti_torch_dtype_float32()) {
    product<float>(weight.data, in, y, M, N, K);
  } else if (weight.dtype == aoti_torch_dtype_bfloat16()) {
    product<BFloat16>(weight.data, in, y, M, N, K);
  } else if (weight.dtype == aoti_torch_dtype_float16()) {
    product<Half>(weight.data, in, y, M, N, K);
  } else {
    aoti_torch_delete_tensor_object(made);
    require(false, "float_linear: the weight must be float32, bfloat16 or float16");
  }
  return made;
}

const Registration registration(
    "float_linear", "float_linear(Tensor x, Tensor weight) -> Tensor", boxed<2, 0, float_linear>);

}  // namespace
}  // namespace muomni

extern "C" AOTI_TORCH_EXPORT AOTITorchError
aoti_torch_cpu_float_linear(AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* result) {
  return muomni::shim<2, 0, muomni::float_linear>({x, weight}, {}, result);
}
