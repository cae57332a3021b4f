// Selection by a condition: moves bits, so it needs an element size and no type.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/where.cpp"
#include <hwy/foreach_target.h>  // must come before the other headers
#include <hwy/highway.h>

#include "executors/onednn/simd/broadcast_rows.h"
#include "executors/onednn/simd/range_function.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

/// Left to the compiler to vectorise: both operands are read, it is a selection and not a branch.
template <class T, class A, class B>
void select_each(const std::uint8_t* cond, const A& a, const B& b, T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const T if_true = a(i), if_false = b(i);
    to[i] = cond[i] ? if_true : if_false;
  }
}

/// Steps are 0 or 1: a constant condition or operand does not move.
template <class T>
void select(const std::uint8_t* cond, std::int64_t step_c, const void* a, std::int64_t step_a, const void* b,
            std::int64_t step_b, void* y, std::int64_t n) {
  const T* left = static_cast<const T*>(a);
  const T* right = static_cast<const T*>(b);
  T* to = static_cast<T*>(y);
  if (step_c == 0) {
    const T* from = *cond ? left : right;
    const std::int64_t step = *cond ? step_a : step_b;
    for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * step];
    return;
  }
  const auto all = [](const T* p) { return [p](std::int64_t i) { return p[i]; }; };
  const auto one = [](const T* p) { return [value = *p](std::int64_t) { return value; }; };
  if (step_a && step_b) return select_each(cond, all(left), all(right), to, n);
  if (step_a) return select_each(cond, all(left), one(right), to, n);
  if (step_b) return select_each(cond, one(left), all(right), to, n);
  select_each(cond, one(left), one(right), to, n);
}

SelectFn find(std::size_t element_bytes) {
  switch (element_bytes) {
    case 1:
      return &select<std::uint8_t>;
    case 2:
      return &select<std::uint16_t>;
    case 4:
      return &select<std::uint32_t>;
    case 8:
      return &select<std::uint64_t>;
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find);
SelectFn find_select(std::size_t element_bytes) { return HWY_DYNAMIC_DISPATCH(find)(element_bytes); }

void where(const Broadcast& shape, std::size_t element_bytes, const void* cond, const void* a, const void* b, void* y) {
  const SelectFn select = find_select(element_bytes);
  const std::int64_t step_c = shape.moves(0), step_a = shape.moves(1), step_b = shape.moves(2);
  const auto bytes = shape.size() * (1 + 3 * static_cast<std::int64_t>(element_bytes));
  for_row_pieces(shape, 8192, bytes, [&](const RowPiece& piece) {
    select(static_cast<const std::uint8_t*>(cond) + piece.offsets[0] + step_c * piece.begin, step_c,
           at(a, piece.offsets[1] + step_a * piece.begin, element_bytes), step_a,
           at(b, piece.offsets[2] + step_b * piece.begin, element_bytes), step_b, at(y, piece.result, element_bytes),
           piece.count);
  });
}

}  // namespace halfstep::simd
#endif
