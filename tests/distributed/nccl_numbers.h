// What NCCL computes, for its emulations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>

#include "distributed/nccl/api.h"
#include <halfstep/base/dtype.h>
#include <halfstep/base/visit.h>

namespace halfstep::test {

inline DType dtype_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat64:
      return DType::f64;
    case ncclFloat32:
      return DType::f32;
    case ncclBfloat16:
      return DType::bf16;
    case ncclFloat16:
      return DType::f16;
    case ncclInt64:
      return DType::i64;
    case ncclInt32:
      return DType::i32;
    default:
      return DType::u8;
  }
}

/// The elements of all ranks, one after the other, reduced. A sum is rounded after each addition, as NCCL's is.
template <class T>
void reduce_ranks(const std::byte* from, std::size_t ranks, std::size_t count, ncclRedOp_t operation, std::byte* to) {
  using Wide = std::conditional_t<sizeof(T) == 2, float, T>;
  for (std::size_t i = 0; i < count; ++i) {
    const auto at = [&](std::size_t rank) {
      T value;
      std::memcpy(&value, from + (rank * count + i) * sizeof(T), sizeof value);
      return value;
    };
    T all = at(0);
    for (std::size_t rank = 1; rank < ranks; ++rank) {
      const auto a = static_cast<Wide>(all), b = static_cast<Wide>(at(rank));
      all = static_cast<T>(operation == ncclSum   ? static_cast<Wide>(a + b)
                           : operation == ncclMin ? std::min(a, b)
                                                  : std::max(a, b));
    }
    std::memcpy(to + i * sizeof(T), &all, sizeof all);
  }
}

/// `count` elements of each rank, which lie one after the other.
inline std::vector<std::byte> reduced(const std::vector<std::byte>& all, std::size_t count, ncclDataType_t type,
                                      ncclRedOp_t operation) {
  const DType dtype = dtype_of(type);
  std::vector<std::byte> result(bytes_of(dtype, count));
  if (result.empty()) return result;
  visit_dtype(dtype, [&]<class T>() {
    if constexpr (!std::is_same_v<T, bool>)
      reduce_ranks<T>(all.data(), all.size() / result.size(), count, operation, result.data());
  });
  return result;
}

}  // namespace halfstep::test
