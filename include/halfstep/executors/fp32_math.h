// Precision of matrix products and convolutions of f32 tensors.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/graph/capabilities.h>

namespace HALFSTEP_API halfstep {

enum class Fp32Math : std::uint8_t {
  strict,  ///< f32
  bf16,    ///< operands are rounded to bf16 if the device multiplies these faster; sums are f32
  tf32,    ///< operands are rounded to tf32, whose significands have 11 bits, by a GPU's tensor cores; sums are f32
};

/// A setting by its name for users.
struct Fp32MathRow {
  std::string_view name;
  Fp32Math math = Fp32Math::strict;
  std::string_view meaning;
};
std::span<const Fp32MathRow> fp32_maths();

/// Throws Error(input) naming the available settings.
Fp32Math parse_fp32_math(std::string_view name);
std::string_view name_of(Fp32Math math);

}  // namespace halfstep
