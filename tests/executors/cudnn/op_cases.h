// One node of every operator in the cudnn executor's table, in the forms that matter to a kernel.
#pragma once

#include <string>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep::cudnn {

/// One operand.
struct Operand {
  enum class Kind {
    real,      ///< of the tested float type, uniform in [-2, 2]
    positive,  ///< of the tested float type, uniform in [0.25, 2]
    ties,      ///< of the tested float type, one of four values
    log_prob,  ///< of the tested float type: logarithms of probabilities over axis 1
    f32,       ///< always f32, uniform in [-2, 2]
    positive_f32,
    labels,      ///< i64 in [0, high)
    labels32,    ///< i32 in [0, high)
    truth,       ///< bool
    constant,    ///< i64 vector `values`, known at compile
    scalar_i64,  ///< `values[0]`
    scalar_f32,  ///< `values[0]`
    absent,
  };
  Kind kind = Kind::real;
  Shape shape;
  std::int64_t high = 0;
  std::vector<std::int64_t> values = {};
};

struct OpTest {
  std::string name;
  std::string op;
  std::string domain;
  std::vector<Operand> inputs;
  Attributes attributes = {};
  std::size_t outputs = 1;
  /// The element types it is tested in.
  std::vector<DType> dtypes = {DType::f32, DType::f16, DType::bf16};
  /// What the plan's kernel must start with.
  std::string kernel = "own";
};

std::vector<OpTest> op_tests();

/// Inputs (constants are initializers), one node, all outputs. `seed` draws the operands into `values`, one per input
/// of the graph.
Graph make_graph(const OpTest& test, DType dtype, std::vector<Tensor>& values, unsigned seed);

}  // namespace halfstep::cudnn
