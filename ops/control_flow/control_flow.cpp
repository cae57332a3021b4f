// If, Loop and Scan.
#include "ops/control_flow/control_flow.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <onnx/defs/schema.h>

#include "base/machine_memory.h"
#include "ops/families.h"
#include "ops/interpreter.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

std::span<const Tensor> captures_of(const KernelCall& call) { return call.in.last(call.node.capture_count); }

// Results get separate memory: they may share that of a constant or of another value.
void give(KernelCall& call, std::size_t i, const Tensor& value) {
  if (call.has_out(i)) copy_elements(value, ensure_out(call, i, value.dtype(), value.shape()));
}

bool truth(const Tensor& tensor) { return single_int(tensor, "a condition") != 0; }

void run_if(KernelCall& call) {
  const Graph& branch = body_of(call.node, truth(call.in[0]) ? "then_branch" : "else_branch");
  const std::vector<Tensor> results = Interpreter(branch).run({}, captures_of(call));
  for (std::size_t i = 0; i < call.out.size(); ++i) give(call, i, results[i]);
}

Tensor slice(const Tensor& whole, std::int64_t axis, std::int64_t index) {
  const AxisView view(whole.shape(), normalize_axis(axis, whole.shape().rank()));
  std::vector<std::int64_t> dims = whole.shape().dims();
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(normalize_axis(axis, dims.size())));
  Tensor result(whole.dtype(), Shape(std::move(dims)));
  visit_storage(whole.dtype(), [&]<class S>() {
    for (std::int64_t o = 0; o < view.outer; ++o)
      std::copy_n(whole.data<S>() + (o * view.extent + index) * view.inner, view.inner,
                  result.data<S>() + o * view.inner);
  });
  return result;
}

// The collected slices of one scan output.
class Stack {
 public:
  Stack(const Value& each, std::int64_t axis, bool reversed) : each_(each), axis_(axis), reversed_(reversed) {}

  std::size_t push(const Tensor& value) {
    if (!slices_.empty() && (value.shape() != slices_[0].shape() || value.dtype() != slices_[0].dtype()))
      throw_input_error(
          "scan outputs of the same shape in every iteration",
          fmt::format("{} after {} for '{}'", value.shape().to_string(), slices_[0].shape().to_string(), each_.name),
          "check the body of the loop");
    slices_.push_back(value);
    return value.bytes();
  }

  Tensor result() const {
    const auto count = static_cast<std::int64_t>(slices_.size());
    // Without iterations the known shape must suffice; an unknown extent may be 0.
    std::vector<std::int64_t> dims = slices_.empty() ? each_.shape.dims() : slices_[0].shape().dims();
    if (slices_.empty()) std::replace(dims.begin(), dims.end(), Shape::kUnknown, std::int64_t{0});
    const std::size_t axis = normalize_axis(axis_, dims.size() + 1);
    dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), count);
    Tensor whole(slices_.empty() ? each_.dtype : slices_[0].dtype(), Shape(std::move(dims)));
    const AxisView view(whole.shape(), axis);
    for (std::int64_t i = 0; i < count; ++i) {
      const Tensor& from = slices_[reversed_ ? count - 1 - i : i];
      visit_storage(whole.dtype(), [&]<class S>() {
        for (std::int64_t o = 0; o < view.outer; ++o)
          std::copy_n(from.data<S>() + o * view.inner, view.inner,
                      whole.data<S>() + (o * view.extent + i) * view.inner);
      });
    }
    return whole;
  }

 private:
  const Value& each_;
  std::int64_t axis_;
  bool reversed_;
  std::vector<Tensor> slices_;
};

// Limit of the growth of a loop's collected slices and states: slices are copied again into the result, and a carried
// value coexists with its successor of up to twice the size.
std::size_t quarter_of_memory() { return machine_memory() / 4; }

// The common parts of Loop and Scan: carrying states and collecting scan outputs.
class Iterations {
  // Memory of a tensor besides its elements: otherwise a loop of scalars could exhaust memory.
  static constexpr std::size_t kTensorBytes = 256;

 public:
  Iterations(KernelCall& call, const LoopForm& form) : call_(call), form_(form), body_(*form.body) {
    for (std::size_t s = 0; s < form.states; ++s) states_.push_back(call.in[form.first_operand + s]);
    for (std::size_t i = 0; i < form.scan_outputs; ++i)
      stacks_.emplace_back((*form.body)[form.body->outputs[form.first_output + form.states + i]], form.output_axes[i],
                           form.output_reversed[i]);
    initial_bytes_ = carried_bytes();
  }

  /// Runs the body on `before`, the states and `after`; returns its first output, the condition of a Loop.
  Tensor run(std::vector<Tensor> before, const std::vector<Tensor>& after) {
    before.insert(before.end(), states_.begin(), states_.end());
    before.insert(before.end(), after.begin(), after.end());
    const std::vector<Tensor> results = body_.run(before, captures_of(call_));
    for (std::size_t s = 0; s < form_.states; ++s) states_[s] = results[form_.first_output + s];
    for (std::size_t i = 0; i < stacks_.size(); ++i) {
      if (!call_.has_out(form_.states + i)) continue;
      stacked_bytes_ += kTensorBytes + stacks_[i].push(results[form_.first_output + form_.states + i]);
    }
    ++count_;
    check_memory();
    return results.empty() ? Tensor() : results[0];
  }

  void give_results() {
    for (std::size_t s = 0; s < form_.states; ++s) give(call_, s, states_[s]);
    for (std::size_t i = 0; i < stacks_.size(); ++i)
      if (call_.has_out(form_.states + i)) give(call_, form_.states + i, stacks_[i].result());
  }

 private:
  std::size_t carried_bytes() const {
    std::size_t bytes = 0;
    for (const Tensor& state : states_) bytes += state.bytes();
    return bytes;
  }

  void check_memory() const {
    const std::size_t carried = carried_bytes();
    const std::size_t grown = stacked_bytes_ + (carried > initial_bytes_ ? carried - initial_bytes_ : 0);
    if (grown > most_bytes_)
      throw_failure(
          fmt::format("a loop that grows by at most {} bytes, a quarter of this machine's memory", most_bytes_),
          fmt::format("{} bytes after {} iterations of {} '{}'", grown, count_, call_.node.op, call_.node.name),
          "check what ends the loop, or use a machine with more memory");
  }

  KernelCall& call_;
  const LoopForm& form_;
  Interpreter body_;
  std::vector<Tensor> states_;
  std::vector<Stack> stacks_;
  std::size_t initial_bytes_ = 0, stacked_bytes_ = 0;
  const std::size_t most_bytes_ = quarter_of_memory();
  std::int64_t count_ = 0;
};

void run_loop(KernelCall& call) {
  const LoopForm form = loop_form(call.node);
  Iterations iterations(call, form);
  const std::int64_t most =
      call.has_in(0) ? single_int(call.in[0], "a trip count") : std::numeric_limits<std::int64_t>::max();
  bool goes_on = !call.has_in(1) || truth(call.in[1]);
  for (std::int64_t i = 0; goes_on && i < most; ++i)
    goes_on = truth(iterations.run({Tensor::scalar(i), Tensor::scalar(true)}, {}));
  iterations.give_results();
}

void run_scan(KernelCall& call) {
  const LoopForm form = loop_form(call.node);
  Iterations iterations(call, form);
  std::int64_t length = -1;
  for (std::size_t i = 0; i < form.scan_inputs; ++i) {
    const Shape& shape = call.in[form.states + i].shape();
    const std::int64_t extent = shape[normalize_axis(form.input_axes[i], shape.rank())];
    if (length >= 0 && extent != length)
      throw_input_error("scan inputs of one length",
                        fmt::format("{} and {} in Scan '{}'", length, extent, call.node.name),
                        "check the inputs of the model");
    length = extent;
  }
  for (std::int64_t step = 0; step < length; ++step) {
    std::vector<Tensor> slices;
    for (std::size_t i = 0; i < form.scan_inputs; ++i)
      slices.push_back(
          slice(call.in[form.states + i], form.input_axes[i], form.input_reversed[i] ? length - 1 - step : step));
    iterations.run({}, slices);
  }
  iterations.give_results();
}

void fail(KernelCall& call) {
  const Attributes& a = call.node.attributes;
  throw_input_error(a.get_string("required", ""), a.get_string("found", "") + " (in a branch of an If that was taken)",
                    a.get_string("remedy", ""));
}

void failure_schema(onnx::OpSchema& schema) {
  using onnx::AttributeProto;
  schema.SetDoc("Stands for a branch whose operands do not fit: throws when it runs.")
      .Attr("required", "The requirement of the error.", AttributeProto::STRING, std::string())
      .Attr("found", "What was found instead.", AttributeProto::STRING, std::string())
      .Attr("remedy", "The remedy.", AttributeProto::STRING, std::string())
      .TypeConstraint("V", onnx::OpSchema::all_tensor_types_ir4(), "Any type.")
      .Output(0, "outputs", "The branch's results.", "V", onnx::OpSchema::Variadic, /*is_homogeneous=*/false);
}

constexpr std::string_view kGradientNote =
    "trained through once inlined: with a constant condition, trip count or length";

const std::vector<OpDef> kOps = {
    {.name = "If",
     .traits = {.control_flow = ControlFlow::branches},
     .reference = run_if,
     .cases = {{"(float[2,3] x, float[3] b) => (float[2,3] y) <bool c = {1}> { y = If (c) <"
                "then_branch = t () => (float[2,3] a) { a = Add(x, b) }, "
                "else_branch = e () => (float[2,3] a) { a = Sub(x, b) }> }"}},
     .note = kGradientNote},
    {.name = "Loop",
     .traits = {.control_flow = ControlFlow::loop},
     .reference = run_loop,
     .cases = {{"(float[2] x, float[2] w) => (float[2] y, float[3,2] all) <int64 n = {3}, bool c = {1}> { y, all = "
                "Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) => (bool again, float[2] t, float[2] u) "
                "{ again = Identity(go) t = Mul(s, w) u = Identity(t) }> }"}},
     .note = kGradientNote},
    {.name = "Scan",
     .traits = {.control_flow = ControlFlow::scan},
     .reference = run_scan,
     .cases = {{"(float[2] s, float[3,2] x) => (float[2] y, float[3,2] all) { y, all = Scan <num_scan_inputs = 1, "
                "body = b (float[2] before, float[2] slice) => (float[2] sum, float[2] out) "
                "{ sum = Add(before, slice) out = Mul(sum, slice) }> (s, x) }"}},
     .note = kGradientNote},
    {.name = "Fail",
     .domain = kOwnDomain,
     .reference = fail,
     .cases = {{"(float[2] x) => (float[2] y) <bool c = {1}> { y = If (c) <then_branch = t () => (float[2] a) "
                "{ a = Neg(x) }, else_branch = e () => (float[2] b) { b = ai.halfstep.Fail<required = \"1\", "
                "found = \"2\", remedy = \"3\">() }> }"}},
     .schema = failure_schema},
};

}  // namespace

std::span<const OpDef> control_flow_ops() { return kOps; }

}  // namespace halfstep::ops
