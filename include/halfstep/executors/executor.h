// Executors: compile a graph for a device and concrete shapes, and run it repeatedly.
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
#include <halfstep/executors/tuning.h>
#include <halfstep/graph/capabilities.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

struct ExecutorOptions {
  int threads = 0;  ///< 0: all CPUs that the process may use
  Fp32Math fp32_math = Fp32Math::strict;
  Tuning tuning = Tuning::off;
  bool deterministic = true;  ///< bit-identical results on every run; false: a GPU's libraries may sum in any order
  /// A DeviceStatus::id or uuid; empty: the first device, or of several ranks on a machine that of the rank's number.
  std::string device = {};
};

/// A device among those of an executor.
struct DeviceStatus {
  std::string id;                          ///< "cuda:1"
  std::string uuid;                        ///< "GPU-5c8e...", the same in every process
  std::string name;                        ///< "NVIDIA H100"
  std::vector<std::string> features = {};  ///< as in Capabilities
  std::size_t memory = 0;                  ///< in bytes
  std::string reason = {};                 ///< why it cannot be used, as a sentence; empty if it can
};

/// One line of `halfstep inspect --plan`: the kernel of a node, and why it was chosen.
struct PlanEntry {
  std::string node;    ///< name in the source model, or a generated one
  std::string op;      ///< operator, with its domain if not ai.onnx
  std::string kernel;  ///< "onednn: brgconv:avx512_core_bf16", "simd", "reference"
  std::string reason;  ///< why better kernels do not support it; empty if the best does
  std::size_t scratch_bytes = 0;
};

struct Plan {
  std::vector<PlanEntry> entries;
  std::size_t arena_bytes = 0;  ///< memory for all values of a step, shared by liveness
  std::size_t state_bytes = 0;
  std::vector<std::string> notes;
};

/// The states of a training run, in the layout preferred by its executor; shared by all programs of that run (the
/// training step, the smaller last batch, evaluation). Names are those of the states' values in the graph. Copies
/// (StateRole::copy) have none here: they lie with their source, and follow what is written to it.
class StateStore {
 public:
  virtual ~StateStore() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual bool has(std::string_view name) const = 0;
  /// A row-major copy in host memory.
  virtual Tensor read(std::string_view name) const = 0;
  /// Throws Error unless dtype and shape match the state.
  virtual void write(std::string_view name, const Tensor& value) = 0;
};

/// A compiled graph. Not thread-safe; programs that share states must not run concurrently either. Others may, also
/// those of one executor, which on a GPU take turns, as they share its stream.
class Program {
 public:
  virtual ~Program() = default;

  /// Row-major host memory of graph input i, to be filled before `run`. The same tensor for the program's lifetime.
  virtual Tensor input(std::size_t i) = 0;
  /// Row-major host memory of graph output i, valid until the next `run`. The same buffer for the program's lifetime,
  /// unless the output's shape depends on data. Call it after every run: a device copies a large output only then.
  virtual Tensor output(std::size_t i) = 0;

  /// One execution: reads inputs and states, writes outputs, replaces every state by its next value. Allocates nothing
  /// (except where a shape depends on data).
  virtual void run() = 0;

  virtual const Plan& plan() const = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;

  virtual std::string_view name() const = 0;
  virtual const Capabilities& capabilities() const = 0;

  /// An empty store: `compile` adds the states of a graph that are not in it yet, with State::initial.
  virtual std::unique_ptr<StateStore> make_store() = 0;

  /// Compiles a graph whose shapes are all static (or depend only on data). The store must outlive the program.
  /// Throws Error naming every node without a kernel.
  virtual std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) = 0;
};

/// The reference for correctness: every operator and type, row-major, single-threaded, not optimized.
std::unique_ptr<Executor> make_reference_executor(const ExecutorOptions& options = {});
/// oneDNN primitives and SIMD kernels on the CPU.
std::unique_ptr<Executor> make_onednn_executor(const ExecutorOptions& options = {});

}  // namespace halfstep
