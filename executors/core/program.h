// A compiled step: its kernels in order over one arena.
#pragma once

#include <memory>

#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/core/store.h>
#include <halfstep/executors/executor.h>

namespace halfstep::core {

/// Compiles a graph; see Executor::compile and RankedExecutor::compile.
std::unique_ptr<Program> compile_program(const Graph& graph, Store& store, std::shared_ptr<const Backend> backend,
                                         const std::shared_ptr<Communicator>& ranks = nullptr);

/// Whether programs compiled from here on give every value memory of its own instead of a part of one arena, so that
/// what is written beyond one shows. For tests.
void separate_values(bool separate);

}  // namespace halfstep::core
