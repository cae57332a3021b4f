#include "executors/onednn/threads.h"

#include <omp.h>

namespace halfstep::onednn {

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) {
  if (threads > 0 && threads != before_) omp_set_num_threads(threads);
}

ThreadScope::~ThreadScope() {
  if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
}

}  // namespace halfstep::onednn
