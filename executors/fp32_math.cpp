#include <algorithm>

#include "base/row_named.h"
#include <halfstep/executors/fp32_math.h>

namespace halfstep {
namespace {

constexpr Fp32MathRow kRows[] = {
    {.name = "strict", .math = Fp32Math::strict, .meaning = "in f32"},
    {.name = "bf16", .math = Fp32Math::bf16, .meaning = "through bf16 units where the device has them; sums stay f32"},
    {.name = "tf32", .math = Fp32Math::tf32, .meaning = "through a GPU's tensor cores, rounded to tf32; sums stay f32"},
};

}  // namespace

std::span<const Fp32MathRow> fp32_maths() { return kRows; }

Fp32Math parse_fp32_math(std::string_view name) {
  return row_named(kRows, name, "arithmetic of f32 that is one of ", "strict is f32 itself").math;
}

std::string_view name_of(Fp32Math math) { return std::ranges::find(kRows, math, &Fp32MathRow::math)->name; }

}  // namespace halfstep
