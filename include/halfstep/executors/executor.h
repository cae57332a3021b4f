// What a device does with a graph: compile it for concrete shapes, then run it again and again.
#pragma once

#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/fp32_math.h>
#include <halfstep/graph/capabilities.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

struct ExecutorOptions {
  int threads = 0;  ///< 0: as many as the process may use
  Fp32Math fp32_math = Fp32Math::strict;
};

/// One line of `halfstep inspect --plan`: where a node went and why.
struct PlanEntry {
  std::string node;    ///< name in the source model, or a made one
  std::string op;      ///< operator with its domain when not ai.onnx
  std::string kernel;  ///< "onednn: brgconv:avx512_core_bf16", "simd", "reference"
  std::string reason;  ///< why better kernels refused it; empty when the first took it
  std::size_t scratch_bytes = 0;
};

struct Plan {
  std::vector<PlanEntry> entries;
  std::size_t arena_bytes = 0;  ///< memory for all values of a step, shared by liveness
  std::size_t state_bytes = 0;
  std::vector<std::string> notes;
};

/// The states of a training run, in the layout its executor likes; shared by all programs of that run (the training
/// step, the smaller last batch, evaluation). Names are those of the states' values in the graph.
class StateStore {
 public:
  virtual ~StateStore() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual bool has(std::string_view name) const = 0;
  /// A row-major copy in host memory.
  virtual Tensor read(std::string_view name) const = 0;
  /// Throws Error unless dtype and shape are the state's.
  virtual void write(std::string_view name, const Tensor& value) = 0;
};

/// A compiled graph. Not for several threads at once; neither are two programs that share states.
class Program {
 public:
  virtual ~Program() = default;

  /// Row-major host memory of graph input i: fill it, then `run`. The same tensor for the program's life.
  virtual Tensor input(std::size_t i) = 0;
  /// Row-major host memory of graph output i, good until the next `run`. The same buffer for the program's life, unless
  /// the output's shape depends on data. To be asked for after every run: a device copies a large output only then.
  virtual Tensor output(std::size_t i) = 0;

  /// One execution: reads inputs and states, writes outputs, moves every state to its next value. Allocates nothing
  /// (but where a shape depends on data).
  virtual void run() = 0;

  virtual const Plan& plan() const = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;

  virtual std::string_view name() const = 0;
  virtual const Capabilities& capabilities() const = 0;

  /// An empty store: `compile` adds the states of a graph that are not in it yet, holding State::initial.
  virtual std::unique_ptr<StateStore> make_store() = 0;

  /// Compiles a graph all of whose shapes are static (or depend on data alone). The store must outlive the program.
  /// Throws Error naming every node that can run nowhere.
  virtual std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) = 0;
};

/// Every operator, every type, row-major, on one thread, without regard to speed: the definition of right.
std::unique_ptr<Executor> make_reference_executor(const ExecutorOptions& options = {});
/// oneDNN primitives and SIMD kernels on the CPU.
std::unique_ptr<Executor> make_onednn_executor(const ExecutorOptions& options = {});

}  // namespace halfstep
