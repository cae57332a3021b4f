// A compiled step: its kernels in order over one arena.
#pragma once

#include <memory>

#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/core/store.h>
#include <halfstep/executors/executor.h>

namespace halfstep::core {

/// Compiles a graph; see Executor::compile.
std::unique_ptr<Program> compile_program(const Graph& graph, Store& store, std::shared_ptr<const Backend> backend);

}  // namespace halfstep::core
