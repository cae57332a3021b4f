// The cudnn executor on the emulated machine.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "executors/core/program.h"
#include "executors/cudnn/backend.h"

namespace halfstep::cudnn {

/// How its programs keep their values.
enum class Values { shared, separate };

inline std::unique_ptr<Executor> emulated_executor(Values values = Values::shared,
                                                   const ExecutorOptions& options = {}) {
  core::separate_values(values == Values::separate);
  ::setenv("HALFSTEP_KERNEL_CACHE", "/proc/nothing", 0);  // else times decide, of an emulation
  std::string reason;
  std::optional<core::Backend> backend = open_backend(runtime_detection_api(), options, reason);
  EXPECT_TRUE(backend) << reason;
  return backend ? core::make_executor(std::move(*backend)) : nullptr;
}

/// The plan's entry of the first node: copies have entries of their own.
inline PlanEntry first_node(const Plan& plan) {
  const auto is_node = [](const PlanEntry& entry) {
    return entry.op != "Upload" && entry.op != "Download" && entry.op != "Reorder";
  };
  const auto found = std::ranges::find_if(plan.entries, is_node);
  return found == plan.entries.end() ? PlanEntry() : *found;
}

}  // namespace halfstep::cudnn
