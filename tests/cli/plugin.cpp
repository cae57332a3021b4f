// An executor in a library of its own, for --plugin.
#include "tests/bf16_executor.h"

extern "C" halfstep::Executor* halfstep_executor(int abi, const halfstep::ExecutorOptions*, std::string* reason) {
  if (abi == halfstep::kExecutorAbi) return new halfstep::Bf16Executor();
  *reason = "built for another halfstep";
  return nullptr;
}
