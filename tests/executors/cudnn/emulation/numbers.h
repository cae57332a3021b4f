// Elements of the types the libraries compute in, as double.
#pragma once

#include <cstddef>
#include <cstdint>

#include <halfstep/base/dtype.h>

namespace emulation {

inline double load(halfstep::DType dtype, const void* p, std::int64_t i) {
  switch (dtype) {
    case halfstep::DType::f16:
      return static_cast<float>(static_cast<const halfstep::f16*>(p)[i]);
    case halfstep::DType::bf16:
      return static_cast<float>(static_cast<const halfstep::bf16*>(p)[i]);
    default:
      return static_cast<const float*>(p)[i];
  }
}

inline void store(halfstep::DType dtype, void* p, std::int64_t i, double value) {
  const auto v = static_cast<float>(value);
  switch (dtype) {
    case halfstep::DType::f16:
      static_cast<halfstep::f16*>(p)[i] = halfstep::f16(v);
      break;
    case halfstep::DType::bf16:
      static_cast<halfstep::bf16*>(p)[i] = halfstep::bf16(v);
      break;
    default:
      static_cast<float*>(p)[i] = v;
  }
}

}  // namespace emulation
