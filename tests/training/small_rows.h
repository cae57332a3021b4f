// A few rows to train with.
#pragma once

#include <cstdint>

#include <halfstep/data/dataset.h>

namespace halfstep {

/// Eight rows of two numbers, and of one, 0 or 1.
inline Dataset small_rows() {
  Tensor x(DType::f32, {8, 2}), y(DType::f32, {8, 1});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 3) / 4;
  for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] = static_cast<float>(i % 2);
  return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
}

}  // namespace halfstep
