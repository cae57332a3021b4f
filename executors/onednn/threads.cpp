#include "executors/onednn/threads.h"

#include <algorithm>

#include <omp.h>

namespace halfstep::onednn {

int available_threads(int wanted) {
  return std::min(wanted > 0 ? wanted : omp_get_max_threads(), omp_get_thread_limit());
}

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()), dynamic_before_(omp_get_dynamic()) {
  if (dynamic_before_ != 0) omp_set_dynamic(0);
  if (const int available = available_threads(threads); available != before_) omp_set_num_threads(available);
}

ThreadScope::~ThreadScope() {
  if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  if (dynamic_before_ != 0) omp_set_dynamic(dynamic_before_);
}

}  // namespace halfstep::onednn
