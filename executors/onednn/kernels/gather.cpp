// Gather and its gradient: rows of an embedding, and elements along any axis.
#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/simd/parallel.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {
namespace {

/// A tensor [outer, extent, inner] of which `count` slices along the middle axis are meant.
struct Slices {
  std::int64_t outer, extent, inner, count;

  Slices(const Shape& whole, std::int64_t axis, std::int64_t indices) : count(indices) {
    const std::size_t a = normalize_axis(axis, whole.rank());
    outer = whole.count(0, a);
    extent = whole[a];
    inner = whole.count(a + 1, whole.rank());
  }
};

/// Index i of an operand of i32 or i64; negative ones count from the end. Throws Error when it is out of range.
template <class T>
void resolve(const T* indices, const Slices& slices, std::int64_t* out) {
  for (std::int64_t i = 0; i < slices.count; ++i) {
    const std::int64_t index = indices[i];
    if (index < -slices.extent || index >= slices.extent)
      throw_input_error(fmt::format("indices in [{}, {}]", -slices.extent, slices.extent - 1), std::to_string(index),
                        "check the data fed to Gather");
    out[i] = index < 0 ? index + slices.extent : index;
  }
}

using Resolve = void (*)(const void* indices, const Slices& slices, std::int64_t* out);
Resolve find_resolve(DType dtype) {
  if (dtype == DType::i32)
    return
        [](const void* p, const Slices& s, std::int64_t* out) { resolve(static_cast<const std::int32_t*>(p), s, out); };
  if (dtype == DType::i64)
    return
        [](const void* p, const Slices& s, std::int64_t* out) { resolve(static_cast<const std::int64_t*>(p), s, out); };
  return nullptr;
}

std::size_t index_bytes(const Slices& slices) { return static_cast<std::size_t>(slices.count) * sizeof(std::int64_t); }

/// dx += dy, slice by slice in order; each thread has columns of its own.
void scatter_add(const Slices& s, const float* dy, const std::int64_t* indices, float* dx) {
  constexpr std::int64_t kColumns = 256;
  const std::int64_t tiles = simd::blocks_of(s.inner, kColumns), total = s.outer * s.extent * s.inner;
  std::memset(dx, 0, static_cast<std::size_t>(total) * sizeof(float));
  const std::int64_t bytes = 12 * s.outer * s.count * s.inner;
  simd::parallel_for(s.outer * tiles, bytes, [&](std::int64_t block) {
    const std::int64_t outer = block / tiles, begin = block % tiles * kColumns;
    const std::int64_t end = std::min(s.inner, begin + kColumns);
    for (std::int64_t i = 0; i < s.count; ++i) {
      const float* from = dy + (outer * s.count + i) * s.inner;
      float* to = dx + (outer * s.extent + indices[i]) * s.inner;
      for (std::int64_t c = begin; c < end; ++c) to[c] += from[c];
    }
  });
}

}  // namespace

Made make_gather(KernelContext& context) {
  const Value &data = context.in(0), &indices = context.in(1);
  if (bits_of(data.dtype) < 8 || bits_of(data.dtype) > 64) return refuse("elements that are not 1 to 8 bytes");
  const Resolve resolve_all = find_resolve(indices.dtype);
  if (!resolve_all) return refuse(fmt::format("indices of type {}", name_of(indices.dtype)));
  const Slices s(data.shape, context.node().attributes.get_int("axis", 0), indices.shape.count());
  const Operand from = context.read(0, Layout()), positions = context.read(1, Layout());
  const Operand to = context.write(0, Layout());
  const BufferId resolved = context.scratch(index_bytes(s));
  const std::size_t slice = bytes_of(data.dtype, static_cast<std::size_t>(s.inner));
  return {"native", {}, [=](const Memory& memory) -> Run {
            return [=, x = memory.at(from), p = memory.at(positions), y = memory.at(to),
                    index = memory.as<std::int64_t>(resolved)] {
              resolve_all(p, s, index);
              const auto bytes = static_cast<std::int64_t>(2 * slice) * s.outer * s.count;
              simd::parallel_for(s.outer * s.count, bytes, [&](std::int64_t i) {
                const std::int64_t source = i / s.count * s.extent + index[i % s.count];
                std::memcpy(simd::at(y, i, slice), simd::at(x, source, slice), slice);
              });
            };
          }};
}

Made make_gather_grad(KernelContext& context) {
  const Value &dy = context.in(0), &indices = context.in(1);
  const Resolve resolve_all = find_resolve(indices.dtype);
  if (!resolve_all || data_type(dy.dtype) == DataType::undef)
    return refuse(fmt::format("{} with indices of type {}", name_of(dy.dtype), name_of(indices.dtype)));
  const Slices s(context.out(0).shape, context.node().attributes.get_int("axis", 0), indices.shape.count());
  // Half types are summed in f32.
  const Operand from = context.read(0, Layout(), DType::f32), positions = context.read(1, Layout());
  const Operand to = context.write(0, Layout(), DType::f32);
  const BufferId resolved = context.scratch(index_bytes(s));
  return {"native", {}, [=](const Memory& memory) -> Run {
            return [=, x = memory.as<const float>(from), p = memory.at(positions), y = memory.as<float>(to),
                    index = memory.as<std::int64_t>(resolved)] {
              resolve_all(p, s, index);
              scatter_add(s, x, index, y);
            };
          }};
}

}  // namespace halfstep::onednn
