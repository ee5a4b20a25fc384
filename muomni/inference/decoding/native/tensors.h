// Tensors by torch's C interface, through which both Python and a compiled package call an operator. Its headers compile in a
// second, those of torch's C++ classes in half a minute.
#pragma once

#include <torch/csrc/stable/c/shim.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

namespace muomni {

inline void check(AOTITorchError error, const char* what) {
  if (error != AOTI_TORCH_SUCCESS) throw std::runtime_error(std::string("muomni: torch fails in ") + what);
}

// A contiguous tensor that someone else owns. Each question to torch costs some ten nanoseconds, in hundreds of calls a token.
struct View {
  void* data;
  int64_t* sizes;
  int64_t dim;
  int32_t dtype;

  View(AtenTensorHandle tensor, const char* name) {
    bool contiguous = false;
    check(aoti_torch_is_contiguous(tensor, &contiguous), "is_contiguous");
    if (!contiguous) throw std::runtime_error(std::string("muomni: ") + name + " must be contiguous");
    check(aoti_torch_get_data_ptr(tensor, &data), "data_ptr");
    check(aoti_torch_get_sizes(tensor, &sizes), "sizes");
    check(aoti_torch_get_dim(tensor, &dim), "dim");
    check(aoti_torch_get_dtype(tensor, &dtype), "dtype");
  }
  int64_t last() const { return sizes[dim - 1]; }
  int64_t numel() const { return product(dim); }
  int64_t rows() const { return product(dim - 1); }  // of all dimensions but the last

 private:
  int64_t product(int64_t count) const {
    int64_t all = 1;
    for (int64_t i = 0; i < count; ++i) all *= sizes[i];
    return all;
  }
};

inline float* floats(AtenTensorHandle tensor) {
  void* data = nullptr;
  check(aoti_torch_get_data_ptr(tensor, &data), "data_ptr");
  return static_cast<float*>(data);
}

inline void require(bool holds, const char* message) {
  if (!holds) throw std::runtime_error(std::string("muomni: ") + message);
}

// A new float32 tensor of the sizes of x, the last of them replaced.
inline AtenTensorHandle empty_like_but_last(const View& x, int64_t last) {
  int64_t sizes[8], strides[8], stride = 1;
  require(x.dim >= 1 && x.dim <= 8, "x needs 1 to 8 dimensions");
  for (int64_t i = x.dim - 1; i >= 0; --i) {
    sizes[i] = i == x.dim - 1 ? last : x.sizes[i];
    strides[i] = stride;
    stride *= sizes[i];
  }
  AtenTensorHandle made = nullptr;
  check(
      aoti_torch_empty_strided(
          x.dim, sizes, strides, aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), 0, &made),
      "empty_strided");
  return made;
}

// body(begin, end) for pieces of 0 .. count in torch's own threads, each of `grain` or more.
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= grain) return body(int64_t(0), count);  // most calls of a small model: not worth a function pointer
  auto call = [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); };
  check(torch_parallel_for(0, count, grain, call, const_cast<Body*>(&body)), "parallel_for");
}

// An operator of T tensors, which stay the caller's, and I integers, with one new tensor as its result.
template <size_t T, size_t I>
using Operator = AtenTensorHandle (*)(const std::array<AtenTensorHandle, T>&, const std::array<int64_t, I>&);

// As torch's dispatcher calls it: the stack owns its tensors.
template <size_t T, size_t I, Operator<T, I> op>
void boxed(StableIValue* stack, uint64_t, uint64_t) {
  struct Owned {
    std::array<AtenTensorHandle, T> handles;
    ~Owned() {
      for (auto handle : handles) aoti_torch_delete_tensor_object(handle);
    }
  } owned;
  std::array<int64_t, I> integers;
  std::memcpy(owned.handles.data(), stack, T * sizeof(StableIValue));
  std::memcpy(integers.data(), stack + T, I * sizeof(StableIValue));
  AtenTensorHandle result = op(owned.handles, integers);
  std::memcpy(&stack[0], &result, sizeof(result));
}

// As a compiled package calls it.
template <size_t T, size_t I, Operator<T, I> op>
AOTITorchError shim(
    const std::array<AtenTensorHandle, T>& handles, const std::array<int64_t, I>& integers, AtenTensorHandle* result) {
  try {
    *result = op(handles, integers);
    return AOTI_TORCH_SUCCESS;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return AOTI_TORCH_FAILURE;
  }
}

// Makes torch.ops.NAMESPACE.NAME known when the library is loaded; it stays for the life of the process.
struct Registration {
  Registration(const char* name, const char* schema, void (*function)(StableIValue*, uint64_t, uint64_t)) {
    TorchLibraryHandle library = nullptr;
    check(aoti_torch_library_init_fragment(NAMESPACE, __FILE__, __LINE__, &library), "library_init_fragment");
    check(aoti_torch_library_def(library, schema), "library_def");
    check(aoti_torch_library_init_impl(NAMESPACE, "CPU", __FILE__, __LINE__, &library), "library_init_impl");
    check(torch_library_impl(library, name, function, TORCH_ABI_VERSION), "library_impl");
  }
};

}  // namespace muomni
