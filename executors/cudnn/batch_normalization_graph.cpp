#include "executors/cudnn/batch_normalization_graph.h"

#include <limits>

#include <fmt/format.h>

#include "executors/cudnn/descriptors.h"

namespace halfstep::cudnn {
namespace {

using Tensor = OperationGraph::Tensor;

/// The tensors of a graph.
class NormalizationGraph {
 public:
  NormalizationGraph(const PlanTarget& target, const BatchNormalizationProblem& p)
      : graph(target, TensorOrder::channels_last), p_(p), channels_(p.x.dims()) {
    for (std::size_t axis = 0; axis < channels_.size(); ++axis)
      if (axis != 1) channels_[axis] = 1;
  }

  Tensor elements() { return graph.tensor(p_.dtype, p_.x); }
  Tensor parameter() { return graph.tensor(DType::f32, Shape(channels_)); }
  Tensor between() { return graph.between(p_.x); }

  OperationGraph graph;

 private:
  const BatchNormalizationProblem& p_;
  std::vector<std::int64_t> channels_;
};

}  // namespace

std::string BatchNormalizationProblem::refusal(int capability) const {
  if (capability < 80) return "cuDNN's batch normalization needs compute capability 8.0";
  if (!data_type(dtype)) return "cuDNN normalizes f32, f16 and bf16";
  if (x.rank() < 2 || x.rank() > 5) return "cuDNN normalizes up to three spatial axes";
  const auto vector = static_cast<std::int64_t>(16 / bytes_of(dtype, 1));
  if (x[1] % vector != 0) return "cuDNN normalizes channels that are a multiple of 16 bytes";
  if (x.count() > std::numeric_limits<std::int32_t>::max()) return "2^31 elements or more";
  if (addition && !relu) return "cuDNN has no addition behind a normalization without a ReLU";
  return {};
}

std::string BatchNormalizationProblem::key() const {
  return fmt::format("batch normalization {} {}{}{}", name_of(dtype), x.to_string(), addition ? " addition" : "",
                     relu ? " relu" : "");
}

std::vector<ExecutionPlan> plan_batch_normalization(const PlanTarget& target, const BatchNormalizationProblem& p,
                                                    const PlanLimits& limits, std::size_t most) {
  NormalizationGraph g(target, p);
  const Tensor x = g.elements(), scale = g.parameter(), bias = g.parameter(), epsilon = g.graph.number(),
               mean = g.parameter(), inverse = g.parameter(), y = g.elements();
  const Tensor added = p.addition ? g.elements() : OperationGraph::kNone;
  Tensor value = p.addition || p.relu ? g.between() : y;
  g.graph.batch_normalization({x, scale, bias, mean, inverse, value}, epsilon);
  if (p.addition) {
    const Tensor sum = g.between();
    g.graph.add(value, added, sum);
    value = sum;
  }
  if (p.relu) g.graph.relu(value, y);
  return g.graph.plan(limits, most);
}

std::vector<ExecutionPlan> plan_batch_normalization_grad(const PlanTarget& target, const BatchNormalizationProblem& p,
                                                         const PlanLimits& limits, std::size_t most) {
  NormalizationGraph g(target, p);
  const Tensor dy = g.elements(), x = g.elements(), scale = g.parameter(), mean = g.parameter(),
               inverse = g.parameter(), dx = g.elements(), dscale = g.parameter(), dbias = g.parameter();
  Tensor value = dy;
  if (p.relu) {
    const Tensor bias = g.parameter(), operand = g.between();
    g.graph.normalization_by({x, scale, bias, mean, inverse, operand});
    value = g.graph.between(p.x, p.dtype);  // cuDNN knows it so alone
    g.graph.relu_gradient(dy, operand, value);
  }
  g.graph.batch_normalization_gradient({value, x, scale, mean, inverse, dx, dscale, dbias});
  return g.graph.plan(limits, most);
}

}  // namespace halfstep::cudnn
