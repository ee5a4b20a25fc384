// What packages of AOTInductor call, found in the whole process by name, and passed on to the operators.
//
// A library of its own: of one that is made known to the whole process, so is whatever it needs, and torch's copy of a
// library would then serve those who bring another version of it (oneDNN).

#include <cstdint>

using Handle = void*;  // torch's AtenTensorHandle

extern "C" {
// The operators' functions of the same names, which `library.py` sets.
int32_t (*muomni_float_linear)(Handle, Handle, Handle*);
int32_t (*muomni_int8_linear)(Handle, Handle, Handle, int64_t, Handle*);
int32_t (*muomni_int4_linear)(Handle, Handle, Handle, int64_t, Handle*);

int32_t aoti_torch_cpu_float_linear(Handle x, Handle weight, Handle* result) {
  return muomni_float_linear(x, weight, result);
}

int32_t aoti_torch_cpu_int8_linear(Handle x, Handle panels, Handle scales, int64_t outputs, Handle* result) {
  return muomni_int8_linear(x, panels, scales, outputs, result);
}

int32_t aoti_torch_cpu_int4_linear(Handle x, Handle panels, Handle scales, int64_t outputs, Handle* result) {
  return muomni_int4_linear(x, panels, scales, outputs, result);
}
}
