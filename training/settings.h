// What a checkpoint remembers of the options of its run, so that a resumed run can tell where its own differ.
//
// Whoever resumes may change options: a longer run with a lower learning rate is one of the reasons to. So a difference
// is told, a line each, and the run goes on with what it was given. Refused is what the checkpoint's state does not
// fit: another model or optimizer, other parameters trained, momentum or a loss scale on one side only, and another
// number of accumulated batches while some are accumulated.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "training/task.h"
#include <halfstep/data/dataset.h>
#include <halfstep/training/options.h>

namespace halfstep {

/// Values of options by what a user calls them: mostly flags ("--lr").
using Settings = std::map<std::string, std::string>;

/// The options that decide what a run computes. How long it is, and what it writes, is not among them.
/// `rows` of the data, 0 where that is not known.
Settings settings_of(const TrainerOptions& options, const Task& task, std::int64_t rows, std::string_view executor);

/// Those of the optimizer and its loss scale.
void add_optimizer(Settings& settings, const OptimizerOptions& options);

/// What ranks compare before the first step: the model, its values, and all that decides what a step computes, but for
/// the seed, of which each rank has one of its own. `model` is the source's graph.
Settings step_settings(const StepOptions& step, const Graph& model, std::span<const TensorInfo> parameters,
                       const std::map<std::string, std::int64_t>& batch_axes);

/// "resuming with --lr 0.01; the checkpoint was made with 0.1" for each that both have and that differs.
std::vector<std::string> setting_differences(const Settings& run, const Settings& checkpoint);

inline constexpr const char* kAccumulateSetting = "--accumulate";
inline constexpr const char* kPrecisionSetting = "--precision";
inline constexpr const char* kLossScaleSetting = "--loss-scale";
inline constexpr std::string_view kNoLossScale = "off";

}  // namespace halfstep
