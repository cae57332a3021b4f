// Options of a training step on several ranks.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>

namespace HALFSTEP_API halfstep {

struct RankOptions {
  int ranks = 1;  ///< 1: a single process
  int rank = 0;   ///< the rank of this step
  /// Minimum size of a bucket: gradients that are all-reduced together.
  std::size_t bucket_bytes = 25'000'000;
  /// The buckets, each a list of parameters; the same on all ranks. Empty: in the order in which the backward pass
  /// computes the gradients.
  std::vector<std::vector<std::string>> buckets = {};
  bool sync_batchnorm = false;  ///< BatchNormalization uses statistics of the rows of all ranks
  /// Each parameter is updated by one rank, its owner, and only the owner has its moments: see shard_optimizer.
  bool sharded_optimizer = false;
  /// The owner of each parameter; the same on all ranks. Empty: owners_of the parameters that have a gradient.
  std::map<std::string, int> owners = {};
  /// The type in which gradients are reduced. For a half type each rank stores the rounding error of its gradients in a
  /// state and adds it to the next ones (error feedback).
  DType gradient_dtype = DType::f32;
};

}  // namespace halfstep
