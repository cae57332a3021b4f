#include <array>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/training/options.h>

namespace halfstep {
namespace {

struct PrecisionName {
  Precision precision;
  std::string_view name;
};
constexpr std::array<PrecisionName, 4> kPrecisions{
    {{Precision::automatic, "auto"}, {Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}, {Precision::fp16, "fp16"}}};

constexpr double kLeastScale = 1e-30, kMostScale = 1e30;

struct Count {
  std::string_view flag;
  std::int64_t TrainerOptions::*value;
  std::int64_t lowest;
};
constexpr std::array<Count, 5> kCounts{{{"epochs", &TrainerOptions::epochs, 1},
                                        {"steps", &TrainerOptions::steps, 0},
                                        {"batch", &TrainerOptions::batch_size, 1},
                                        {"checkpoint-every", &TrainerOptions::checkpoint_every, 0},
                                        {"max-skipped", &TrainerOptions::max_skipped_in_a_row, 1}}};

}  // namespace

Precision parse_precision(std::string_view name) {
  for (const PrecisionName& p : kPrecisions)
    if (p.name == name) return p.precision;
  throw_input_error("a precision: auto, fp32, bf16, fp16", "'" + std::string(name) + "'",
                    "check --precision and HALFSTEP_PRECISION");
}

std::string_view name_of(Precision precision) {
  for (const PrecisionName& p : kPrecisions)
    if (p.precision == precision) return p.name;
  return "unknown";
}

DType resolve(Precision precision, const Capabilities& capabilities) {
  switch (precision) {
    case Precision::fp32:
      return DType::f32;
    case Precision::bf16:
      return DType::bf16;
    case Precision::fp16:
      return DType::f16;
    case Precision::automatic:
      break;
  }
  return capabilities.auto_precision;
}

std::string_view precision_name(DType type) {
  switch (type) {
    case DType::bf16:
      return name_of(Precision::bf16);
    case DType::f16:
      return name_of(Precision::fp16);
    default:
      return name_of(Precision::fp32);
  }
}

void check(const TrainerOptions& options) {
  for (const Count& count : kCounts)
    if (options.*count.value < count.lowest)
      throw_input_error(fmt::format("--{} of at least {}", count.flag, count.lowest),
                        fmt::format("{}", options.*count.value), "give a larger number");
  if (options.loss) numbers_of(*options.loss, options.loss_numbers);
  check(options.optimizer);
  check(options.schedule);
  if (const std::optional<double>& scale = options.loss_scale;
      scale && *scale != 0 && !(*scale >= kLeastScale && *scale <= kMostScale))
    throw_input_error(fmt::format("--loss-scale as 0 (off) or a number from {} to {}", kLeastScale, kMostScale),
                      fmt::format("{}", *scale), "give the first loss scale");
}

}  // namespace halfstep
