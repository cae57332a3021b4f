#include <array>

#include <fmt/format.h>

#include "training/start.h"
#include <halfstep/base/error.h>
#include <halfstep/training/options.h>

namespace halfstep {
namespace {

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

void check(const TrainerOptions& options) {
  for (const Count& count : kCounts)
    if (options.*count.value < count.lowest)
      throw_input_error(fmt::format("--{} of at least {}", count.flag, count.lowest),
                        fmt::format("{}", options.*count.value), "give a larger number");
  for (const OutputLoss& loss : options.losses)
    if (loss.loss) numbers_of(loss_named(*loss.loss), loss.numbers);
  check(options.optimizer);
  check(options.schedule);
  check_gradient_dtype(options.gradient_dtype, /*has_loss_scale=*/true);  // not known yet
  check_loss_scale(options.loss_scale);
}

}  // namespace halfstep
