// How many threads a piece of work may use.
#pragma once

namespace halfstep::onednn {

/// Sets the number of OpenMP threads of the calling thread, and sets it back. Primitives are cut for the number of
/// threads they are described with. They must be made with the same, under which oneDNN finds them in its cache, and
/// run with the same. Small primitives are left to all threads: those that idle fall asleep, and waking them for the
/// next primitive costs more than a region that gains nothing.
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

}  // namespace halfstep::onednn
