// How many threads a piece of work may use.
#pragma once

namespace halfstep::onednn {

/// The number of threads that teams of the calling thread can have of `wanted` (0: as many as OpenMP would take):
/// OMP_THREAD_LIMIT gives a region fewer than it asks for, and a region within a region mostly has one.
int available_threads(int wanted);

/// Lets the process fork, from the first call on: libgomp's teams end before it and start anew when they are needed, as
/// a child process would wait for the parent's threads for ever.
void end_teams_at_fork();

/// Sets the number of OpenMP threads of the calling thread, and sets it back; OMP_DYNAMIC, by which regions may get
/// fewer, does not count meanwhile: primitives compute something else in a smaller team than they count on. Primitives
/// are cut for the number of threads they are described with. They must be made with the same, under which oneDNN finds
/// them in its cache, and run with the same. Small primitives are left to all threads: those that idle fall asleep, and
/// waking them for the next primitive costs more than a region that gains nothing.
class ThreadScope {
 public:
  /// 0: as many as there are. Throws Error(failure) when there are not as many as asked for.
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_, dynamic_before_;
};

}  // namespace halfstep::onednn
