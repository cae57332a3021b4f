// The operator of an optimizer: its reference kernel interprets the update of the table row in f64.
#include <map>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ops/interpreter.h"
#include "ops/optimizers/optimizer.h"
#include "ops/optimizers/update_graph.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::ops {
namespace {

/// The update of a parameter of one shape: the `update_graph` in f64.
class Update {
 public:
  Update(const OptimizerDef& row, const Hyperparameters& h, const Shape& parameter)
      : graph_(update_graph(row, h, parameter, DType::f64)), interpreter_(graph_) {}

  std::vector<Tensor> run(std::span<const Tensor> in) { return interpreter_.run(in, {}); }

 private:
  Graph graph_;
  Interpreter interpreter_;
};

/// Cached, because building an update takes longer than running it, and each step runs the same ones.
Update& update_for(const OptimizerDef& row, const Hyperparameters& h, const Shape& parameter) {
  constexpr std::size_t kMost = 256;
  thread_local std::map<std::string, std::unique_ptr<Update>> known;
  const std::string key = fmt::format("{} {} {}", row.name, fmt::join(h.values(), ","), parameter.to_string());
  if (known.size() >= kMost && !known.contains(key)) known.clear();
  std::unique_ptr<Update>& update = known[key];
  if (!update) update = std::make_unique<Update>(row, h, parameter);
  return *update;
}

void require_shape(const Tensor& tensor, const Shape& shape, std::string_view what) {
  if (tensor.shape() != shape)
    throw_input_error(fmt::format("{} of shape {}", what, shape.to_string()), tensor.shape().to_string(),
                      "check the training graph");
}

}  // namespace

void optimizer_step_kernel(KernelCall& call) {
  const OptimizerDef& row = *optimizer_of(call.node);
  const Hyperparameters h(row, call.node.attributes);
  const StepOperands operands(call.in.size(), call.out.size());
  const std::size_t n = operands.parameters;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < n; ++i) shapes.push_back(call.in[operands.parameter(i)].shape());
  const SlotPlaces places = slot_places(row, h, shapes);
  std::size_t slots = 0;
  for (const auto& of_one : places)
    for (const auto& place : of_one) slots += place.has_value();
  if (n == 0 || call.out.size() != n + slots)
    throw_input_error(fmt::format("the parameters, gradients and slots of {}", row.name),
                      fmt::format("{} tensors in, {} out", call.in.size(), call.out.size()),
                      "check the training graph");
  const double lr = single_number(call.in[0], "the learning rate");
  const std::int64_t step = single_int(call.in[1], "the step");
  const bool apply = single_int(call.in[2], "apply") != 0;
  const double factor = single_number(call.in[3], "the gradients' factor");
  if (step < 1) throw_input_error("steps counted from 1", std::to_string(step), "check the training graph");

  const auto write = [&](std::size_t output, const Tensor* next) {
    if (!call.has_out(output)) return;
    const Tensor& old = call.in[operands.replaced(output)];
    Tensor& out = ensure_out(call, output, old.dtype(), old.shape());
    if (next)
      store(out, to_doubles(*next));
    else  // bit for bit
      copy_elements(old, out);
  };
  if (!apply) {
    for (std::size_t i = 0; i < call.out.size(); ++i) write(i, nullptr);
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    std::vector<Tensor> in{Tensor::scalar(lr), Tensor::scalar(static_cast<double>(step)), Tensor::scalar(factor)};
    std::vector<std::size_t> outputs{i};
    const auto add = [&](std::size_t input, const Shape& shape, std::string_view what) {
      require_shape(call.in[input], shape, what);
      in.push_back(convert(call.in[input], DType::f64));
    };
    add(operands.parameter(i), shapes[i], "a parameter");
    add(operands.gradient(i), shapes[i], "a gradient");
    for (std::size_t slot = 0; slot < row.slots.size(); ++slot) {
      if (!places[i][slot]) continue;
      add(operands.first_slot() + *places[i][slot], *row.slots[slot].shape(h, shapes[i]), row.slots[slot].meaning);
      outputs.push_back(n + *places[i][slot]);
    }
    const std::vector<Tensor> next = update_for(row, h, shapes[i]).run(in);
    for (std::size_t k = 0; k < next.size(); ++k) write(outputs[k], &next[k]);
  }
}

}  // namespace halfstep::ops
