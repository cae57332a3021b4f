#include "executors/onednn/signals.h"

#include <initializer_list>

#include <dnnl.h>

namespace halfstep::onednn {
namespace {

bool are_needed() {
  static const bool needed = [] {
    const dnnl_version_t& version = *dnnl_version();
    return version.major < 3 || (version.major == 3 && version.minor < 12);
  }();
  return needed;
}

const sigset_t& all_but_faults() {
  static const sigset_t signals = [] {
    sigset_t set;
    sigfillset(&set);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&set, fault);
    return set;
  }();
  return signals;
}

/// OpenMP keeps its threads, and a thread starts with the mask of the one that makes it. So new ones are right, and
/// those of another region before are told once: they are OpenMP's own, nobody waits for a signal there.
void tell_team(int threads) {
  thread_local int told = 1;
  if (threads <= told) return;
#pragma omp parallel num_threads(threads)
  pthread_sigmask(SIG_BLOCK, &all_but_faults(), nullptr);
  told = threads;
}

}  // namespace

SignalsPostponed::SignalsPostponed(int threads) {
  if (!are_needed()) return;
  pthread_sigmask(SIG_BLOCK, &all_but_faults(), &before_);
  tell_team(threads);
}

SignalsPostponed::~SignalsPostponed() {
  if (are_needed()) pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace halfstep::onednn
