// A training step that several ranks make together.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>

namespace HALFSTEP_API halfstep {

struct RankOptions {
  int ranks = 1;  ///< 1: a step by itself
  int rank = 0;   ///< of this step among them
  /// Gradients are reduced in groups of at least so many bytes.
  std::size_t bucket_bytes = 25'000'000;
  /// Those groups, each a list of parameters; they have to be the same on all ranks. Empty: as the backward pass gives
  /// the gradients.
  std::vector<std::vector<std::string>> buckets = {};
  bool sync_batchnorm = false;  ///< BatchNormalization takes its statistics from the rows of all ranks
  /// Each parameter is updated by one rank, which alone has its moments: see shard_optimizer.
  bool sharded_optimizer = false;
  /// That rank, by the parameter; the same on all ranks. Empty: by owners_of the parameters that have a gradient.
  std::map<std::string, int> owners = {};
  /// In which gradients are reduced. A half type: what rounding takes from a gradient is added to the next one of that
  /// rank (error feedback), from a state of each.
  DType gradient_dtype = DType::f32;
};

}  // namespace halfstep
