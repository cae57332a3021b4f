// A compiled step: its kernels in order over one arena.
#pragma once

#include <memory>
#include <vector>

#include "executors/executor.h"
#include "executors/onednn/assembly.h"

namespace halfstep::onednn {

/// Compiles a graph; see Executor::compile.
std::unique_ptr<Program> compile_program(const Graph& graph, Store& store, int threads);

}  // namespace halfstep::onednn
