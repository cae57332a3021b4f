// A training step that several ranks make together.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

struct RankOptions {
  int ranks = 1;  ///< 1: a step by itself
  /// Gradients are reduced in groups of at least so many bytes.
  std::size_t bucket_bytes = 25'000'000;
  /// Those groups, each a list of parameters; they have to be the same on all ranks. Empty: as the backward pass gives
  /// the gradients.
  std::vector<std::vector<std::string>> buckets = {};
  bool sync_batchnorm = false;  ///< BatchNormalization takes its statistics from the rows of all ranks
};

}  // namespace halfstep
