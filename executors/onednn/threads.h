// How many threads a piece of work may use.
#pragma once

#include <cstdint>

#include "executors/onednn/kernel.h"

namespace halfstep::onednn {

/// Sets the number of OpenMP threads of the calling thread, and sets it back. Primitives are cut for the number of
/// threads they are described with. They must be made with the same, under which oneDNN finds them in its cache, and
/// run with the same.
class ThreadScope {
 public:
  /// 0 changes nothing.
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

/// Multiplications that take about as long as entering a parallel region; see simd::kParallelBytes.
inline constexpr std::int64_t kFewMultiplications = 1 << 18;

/// A primitive on the calling thread alone; it must be described and made under ThreadScope(1).
Bind on_one_thread(Bind bind);

}  // namespace halfstep::onednn
