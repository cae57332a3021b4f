#include "executors/onednn/threads.h"

#include <algorithm>

#include <fmt/format.h>
#include <omp.h>
#include <pthread.h>

#include <halfstep/base/error.h>

namespace halfstep::onednn {

void end_teams_at_fork() {
  [[maybe_unused]] static const int registered =
      pthread_atfork([] { omp_pause_resource(omp_pause_soft, omp_get_initial_device()); }, nullptr, nullptr);
}

int available_threads(int wanted) {
  const bool can_start = omp_get_active_level() < omp_get_max_active_levels();
  return std::min(wanted > 0 ? wanted : omp_get_max_threads(), can_start ? omp_get_thread_limit() : 1);
}

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()), dynamic_before_(omp_get_dynamic()) {
  const int available = available_threads(threads);
  if (available < threads)
    throw_failure(fmt::format("{} threads, as the program was compiled for", threads),
                  fmt::format("{}, inside an OpenMP parallel region", available),
                  "call from outside of the region, or make the executor with threads = 1");
  if (dynamic_before_ != 0) omp_set_dynamic(0);
  if (available != before_) omp_set_num_threads(available);
}

ThreadScope::~ThreadScope() {
  if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  if (dynamic_before_ != 0) omp_set_dynamic(dynamic_before_);
}

}  // namespace halfstep::onednn
