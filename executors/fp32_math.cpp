#include <algorithm>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/fp32_math.h>

namespace halfstep {
namespace {

constexpr Fp32MathRow kRows[] = {
    {.name = "strict", .math = Fp32Math::strict, .meaning = "in f32"},
    {.name = "bf16", .math = Fp32Math::bf16, .meaning = "through bf16 units where the device has them; sums stay f32"},
    {.name = "tf32",
     .meaning = "through a GPU's tf32 units",
     .refusal = "no executor has kernels that are known to compute in tf32"},
};

}  // namespace

std::span<const Fp32MathRow> fp32_maths() { return kRows; }

Fp32Math parse_fp32_math(std::string_view name) {
  const auto row = std::ranges::find(kRows, name, &Fp32MathRow::name);
  std::string names;
  for (const Fp32MathRow& each : kRows)
    if (each.refusal.empty()) names += fmt::format("{}{}", names.empty() ? "" : ", ", each.name);
  if (row == std::end(kRows))
    throw_input_error("arithmetic of f32 that is one of " + names, fmt::format("'{}'", name), "strict is f32 itself");
  if (!row->refusal.empty())
    throw_input_error("arithmetic of f32 that is one of " + names, fmt::format("{}: {}", name, row->refusal),
                      "strict is f32 itself");
  return row->math;
}

std::string_view name_of(Fp32Math math) { return std::ranges::find(kRows, math, &Fp32MathRow::math)->name; }

std::string without_effect(Fp32Math math, std::string_view executor, const Capabilities& capabilities) {
  if (math == Fp32Math::strict) return {};
  if (executor != "onednn")
    return fmt::format("f32 math {} has no effect: the {} executor computes f32 in f32", name_of(math), executor);
  if (capabilities.is_native(OpClass::matmul, DType::bf16)) return {};
  return fmt::format("f32 math {} has no effect: this CPU has no units for {}", name_of(math), name_of(math));
}

}  // namespace halfstep
