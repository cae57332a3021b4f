// A compiled step: its kernels in order over one arena.
#pragma once

#include <memory>
#include <vector>

#include "executors/executor.h"
#include "executors/onednn/assembly.h"

namespace halfstep::onednn {

/// Sets the number of OpenMP threads of the calling thread, and sets it back. Primitives are cut for the number of
/// threads they are made with and must run with the same.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

/// Compiles a graph; see Executor::compile.
std::unique_ptr<Program> compile_program(const Graph& graph, Store& store, int threads);

}  // namespace halfstep::onednn
