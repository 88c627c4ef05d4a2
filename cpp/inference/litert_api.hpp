// The part of the LiteRT C API that we call, declared by hand from its published headers
// (github.com/google-ai-edge/LiteRT, litert/c), and its loader. Handles are opaque.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.hpp"

namespace edgecore::inference::litert {

using Code = int;  // 0 is success
using Handle = void*;

constexpr std::int32_t kInt8 = 9;
constexpr int kCpu = 1;
constexpr int kTagAccelerators = 24;  // of an environment option: which to register
constexpr int kTagLogSeverity = 25;
constexpr int kAnyInt = 2;
constexpr int kSeverityError = 4;

struct TensorType {
  std::int32_t element;
  std::uint32_t rank_and_strides;  // rank in the low 7 bits
  std::int32_t dimensions[8];
  std::uint32_t strides[8];
};
static_assert(sizeof(TensorType) == 72);

struct PerTensor {
  float scale;
  std::int64_t zero_point;
};

struct Option {
  int tag;
  struct {
    int type;
    std::int64_t value;
  } any;
};
static_assert(sizeof(Option) == 24);

struct Api {
  Code (*create_environment)(int, const Option*, Handle*);
  void (*destroy_environment)(Handle);
  Code (*create_model)(Handle, const void*, std::size_t, Handle*);
  void (*destroy_model)(Handle);
  Code (*create_options)(Handle*);
  void (*destroy_options)(Handle);
  Code (*set_accelerators)(Handle, int);
  Code (*create_compiled)(Handle, Handle, Handle, Handle*);
  void (*destroy_compiled)(Handle);
  Code (*resize_input)(Handle, std::size_t, std::size_t, const int*, std::size_t);
  Code (*signature)(Handle, std::size_t, Handle*);
  Code (*input_count)(Handle, std::size_t*);
  Code (*output_count)(Handle, std::size_t*);
  Code (*input_tensor)(Handle, std::size_t, Handle*);
  Code (*output_tensor)(Handle, std::size_t, Handle*);
  Code (*tensor_type)(Handle, TensorType*);
  Code (*per_tensor)(Handle, PerTensor*);
  Code (*create_buffer)(const TensorType*, void*, std::size_t, void (*)(void*), Handle*);
  void (*destroy_buffer)(Handle);
  Code (*run)(Handle, std::size_t, std::size_t, Handle*, std::size_t, Handle*);
};

// Unavailable when the library can't be opened or lacks a function.
Result<Api> open_api(const std::string& library);

}  // namespace edgecore::inference::litert
