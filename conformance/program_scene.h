// Small graphs on an executor, and what they must give. Internal to the program check.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/executors/executor.h>

namespace halfstep {

/// A state of a graph in text form: `value`, which `next` takes the place of where it is not empty; with a source a
/// copy of that state, which comes before.
struct StateNames {
  std::string_view value, next, source = {};
};
/// The graph of `text` (see parse_case) with these states: initializers of it, or inputs, which begin as zeros. Outputs
/// that are only there for a state to take, called NAME_next, are none of the graph.
Graph parse_program(std::string_view text, const std::vector<StateNames>& states = {});

/// Element i of a tensor. Small whole numbers, and few operations on them, are exact in every type.
using Elements = std::function<double(std::size_t i)>;
Elements all(double value);
Tensor tensor_of(const Tensor& like, const Elements& elements);

class ProgramScene {
 public:
  explicit ProgramScene(Executor& executor) : executor_(executor) {}

  const Capabilities& capabilities() const { return executor_.capabilities(); }
  std::unique_ptr<StateStore> make_store() { return executor_.make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store);

  /// Fills the inputs, one after the other, and runs.
  static void run(Program& program, const std::vector<Elements>& inputs);
  /// Whether `action` throws an Error.
  static bool is_refused(const std::function<void()>& action);
  // Throw std::runtime_error, which says what `what` is and should be.
  static void expect(const std::string& what, const Tensor& found, const Elements& wanted);
  static void expect(const std::string& what, bool holds);
  static void expect_error(const std::string& what, const std::function<void()>& action);

  /// Families of the kernels of all programs so far.
  const std::string& kernels() const { return kernels_; }

 private:
  Executor& executor_;
  Plan plan_;
  std::string kernels_;
};

}  // namespace halfstep
