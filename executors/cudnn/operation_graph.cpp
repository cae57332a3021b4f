#include "executors/cudnn/operation_graph.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executors/cudnn/descriptors.h"

namespace halfstep::cudnn {
namespace {

/// [N, C, L] as [N, C, 1, L], [N, C] as [N, C, 1, 1].
std::vector<std::int64_t> padded(const Shape& shape) {
  std::vector<std::int64_t> dims = shape.dims();
  if (dims.size() < 4) dims.insert(dims.begin() + 2, 4 - dims.size(), 1);
  return dims;
}

std::vector<std::int64_t> last(const ops::Window::Axes& axes, std::size_t count) {
  return {axes.end() - static_cast<std::ptrdiff_t>(count), axes.end()};
}

/// The attributes of an operation's operands.
struct ConvolutionNames {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
};
ConvolutionNames names_of(OperationGraph::Direction direction) {
  switch (direction) {
    case OperationGraph::Direction::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case OperationGraph::Direction::data_gradient:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case OperationGraph::Direction::weight_gradient:
      break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

/// An engine with settings, as a heuristic proposes it, and what cuDNN says of it.
struct Proposal {
  std::shared_ptr<const BackendDescriptor> configuration;
  std::int64_t engine = 0;
  std::vector<int> numbers, behaviour;  // notes

  bool has(cudnnBackendNumericalNote_t note) const {
    return std::ranges::find(numbers, static_cast<int>(note)) != numbers.end();
  }
  bool has(cudnnBackendBehaviorNote_t note) const {
    return std::ranges::find(behaviour, static_cast<int>(note)) != behaviour.end();
  }
  bool is_within(const PlanLimits& limits) const {
    if (limits.deterministic && has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) return false;
    if (has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return false;
    // Operands of f32 in f16 would overflow.
    if (has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)) return false;
    return limits.tensor_cores || !has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  }
  bool is_compiled() const { return has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION); }
  std::string notes() const {
    constexpr std::pair<cudnnBackendNumericalNote_t, const char*> kNumbers[] = {
        {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, "tensor cores"},
        {CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, "operands rounded"},
        {CUDNN_NUMERICAL_NOTE_FFT, "FFT"},
        {CUDNN_NUMERICAL_NOTE_WINOGRAD, "Winograd"},
        {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, "not deterministic"},
    };
    std::vector<std::string_view> all;
    for (const auto& [note, text] : kNumbers)
      if (has(note)) all.emplace_back(text);
    if (is_compiled()) all.emplace_back("compiled at run time");
    return fmt::format("{}", fmt::join(all, ", "));
  }
};

std::vector<Proposal> proposals(const BackendDescriptor& graph, const PlanTarget& target, cudnnBackendHeurMode_t mode) {
  BackendDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (target.properties) heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.properties);
  if (!heuristic.try_finalize()) return {};
  std::vector<Proposal> found;
  for (BackendDescriptor& configuration :
       heuristic.descriptors(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)) {
    const std::vector<BackendDescriptor> engines =
        configuration.descriptors(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (engines.size() != 1) continue;
    auto numbers = engines[0].enumerators(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                          CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
    auto behaviour = engines[0].enumerators(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                            CUDNN_BEHAVIOR_NOTE_TYPE_COUNT);
    if (!numbers || !behaviour) continue;  // it may be anything, not deterministic too
    found.push_back({.configuration = share(std::move(configuration)),
                     .engine = engines[0].number(CUDNN_ATTR_ENGINE_GLOBAL_INDEX).value_or(-1),
                     .numbers = std::move(*numbers),
                     .behaviour = std::move(*behaviour)});
  }
  return found;
}

/// Of a configuration: " k2=4 k13=0".
std::string settings_of(const BackendDescriptor& configuration) {
  std::string text;
  for (const BackendDescriptor& knob : configuration.descriptors(
           CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS)) {
    const auto type = knob.enumerators(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1);
    const auto value = knob.number(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
    if (type && !type->empty() && value) text += fmt::format(" k{}={}", type->front(), *value);
  }
  return text;
}

/// What a plan refers to, as long as it lives.
struct Kept {
  std::shared_ptr<std::deque<BackendDescriptor>> parts;
  std::shared_ptr<const BackendDescriptor> configuration, properties;
  BackendDescriptor plan{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
};

/// Without a plan where cuDNN refuses, or where it takes more workspace than `most`.
ExecutionPlan::Built build(std::shared_ptr<Kept> kept, cudnnHandle_t handle, std::size_t most) {
  BackendDescriptor& plan = kept->plan;
  if (!kept->properties) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, *kept->configuration);
  if (kept->properties) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *kept->properties);
  if (!plan.try_finalize()) return {};
  const std::optional<std::int64_t> bytes = plan.number(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  if (!bytes || static_cast<std::size_t>(*bytes) > most) return {};
  return {{kept, &kept->plan}, static_cast<std::size_t>(*bytes)};
}

/// What `make` gives when the result, or a copy of it, is called first.
template <class F>
std::function<ExecutionPlan::Built()> made_once(F make) {
  struct Late {
    std::mutex mutex;
    std::optional<ExecutionPlan::Built> made;
  };
  return [make, late = std::make_shared<Late>()] {
    const std::lock_guard lock(late->mutex);
    if (!late->made) late->made = make();
    return *late->made;
  };
}

}  // namespace

BackendDescriptor& OperationGraph::make(cudnnBackendDescriptorType_t type) { return parts_->emplace_back(type); }

void OperationGraph::append(BackendDescriptor& operation) {
  operation.finalize();
  operations_.push_back(operation.get());
}

OperationGraph::Tensor OperationGraph::add_tensor(cudnnDataType_t type, std::span<const std::int64_t> shape,
                                                  std::span<const std::int64_t> strides,
                                                  cudnnBackendAttributeName_t flag) {
  constexpr std::int64_t kAlignment = 16;
  const auto id = static_cast<Tensor>(tensors_.size());
  BackendDescriptor& made = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
  made.set(CUDNN_ATTR_TENSOR_DIMENSIONS, shape);
  made.set(CUDNN_ATTR_TENSOR_STRIDES, strides);
  made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  made.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, kAlignment);
  if (flag != CUDNN_ATTR_TENSOR_UNIQUE_ID) made.set(flag, true);
  made.finalize();
  tensors_.push_back(&made);
  ranks_.push_back(shape.size());
  return id;
}
OperationGraph::Tensor OperationGraph::tensor(DType dtype, const Shape& shape) {
  const std::vector<std::int64_t> dims = padded(shape);
  return add_tensor(data_type(dtype).value(), dims, strides_in(order_, dims));
}
OperationGraph::Tensor OperationGraph::between(const Shape& shape, DType dtype) {
  const std::vector<std::int64_t> dims = padded(shape);
  return add_tensor(data_type(dtype).value(), dims, strides_in(order_, dims), CUDNN_ATTR_TENSOR_IS_VIRTUAL);
}
OperationGraph::Tensor OperationGraph::tensor(DType dtype, const Shape& shape, std::span<const std::int64_t> strides) {
  return add_tensor(data_type(dtype).value(), shape.dims(), strides);
}
OperationGraph::Tensor OperationGraph::between(cudnnDataType_t type, const Shape& shape,
                                               std::span<const std::int64_t> strides) {
  return add_tensor(type, shape.dims(), strides, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
}
OperationGraph::Tensor OperationGraph::number() {
  constexpr std::int64_t kOnes[] = {1, 1, 1, 1};
  return add_tensor(CUDNN_DATA_FLOAT, kOnes, kOnes, CUDNN_ATTR_TENSOR_IS_BY_VALUE);
}

void OperationGraph::convolution(Direction direction, Tensor x, Tensor w, Tensor y, const ops::Window& window) {
  const std::size_t axes = ranks_[x] - 2;
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  BackendDescriptor& convolution = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  convolution.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  convolution.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, static_cast<std::int64_t>(axes));
  convolution.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, last(window.pad_begin, axes));
  convolution.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, last(window.pad_end, axes));
  convolution.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, last(window.stride, axes));
  convolution.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, last(window.dilation, axes));
  convolution.finalize();

  const ConvolutionNames names = names_of(direction);
  BackendDescriptor& operation = make(names.operation);
  operation.set(names.convolution, convolution);
  operation.set(names.x, descriptor(x));
  operation.set(names.w, descriptor(w));
  operation.set(names.y, descriptor(y));
  operation.set(names.alpha, 1.0F);
  operation.set(names.beta, 0.0F);
  append(operation);
}

void OperationGraph::add(Tensor x, Tensor b, Tensor y) { pointwise({CUDNN_POINTWISE_ADD}, x, b, y); }
void OperationGraph::relu(Tensor x, Tensor y) { pointwise({CUDNN_POINTWISE_RELU_FWD}, x, kNone, y); }

void OperationGraph::relu_gradient(Tensor dy, Tensor x, Tensor dx) {
  const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_RELU_BWD;
  BackendDescriptor& function = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  function.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
  function.finalize();
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, descriptor(x));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, descriptor(dy));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, descriptor(dx));
  append(operation);
}

BackendDescriptor& OperationGraph::normalization(cudnnBackendNormFwdPhase_t phase, const Normalized& t) {
  const cudnnBackendNormMode_t mode = CUDNN_BATCH_NORM;
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &phase);
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, descriptor(t.x));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, descriptor(t.scale));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, descriptor(t.bias));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, descriptor(t.mean));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, descriptor(t.inverse));
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, descriptor(t.y));
  return operation;
}

void OperationGraph::batch_normalization(const Normalized& tensors, Tensor epsilon) {
  BackendDescriptor& operation = normalization(CUDNN_NORM_FWD_TRAINING, tensors);
  operation.set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, descriptor(epsilon));
  append(operation);
}

void OperationGraph::normalization_by(const Normalized& tensors) {
  append(normalization(CUDNN_NORM_FWD_INFERENCE, tensors));
}

void OperationGraph::batch_normalization_gradient(const NormalizationGradient& t) {
  const cudnnBackendNormMode_t mode = CUDNN_BATCH_NORM;
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &mode);
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, descriptor(t.x));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, descriptor(t.mean));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, descriptor(t.inverse));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, descriptor(t.dy));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, descriptor(t.scale));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, descriptor(t.dscale));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, descriptor(t.dbias));
  operation.set(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, descriptor(t.dx));
  append(operation);
}

void OperationGraph::matmul(Tensor a, Tensor b, Tensor y) {
  BackendDescriptor& product = make(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  product.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  product.finalize();
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, product);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, descriptor(a));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, descriptor(b));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, descriptor(y));
  append(operation);
}

void OperationGraph::pointwise(const Function& f, Tensor x, Tensor b, Tensor y, Tensor condition) {
  BackendDescriptor& function = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &f.mode);
  function.set(CUDNN_ATTR_POINTWISE_MATH_PREC, f.type);
  if (f.axis >= 0) function.set(CUDNN_ATTR_POINTWISE_AXIS, f.axis);
  if (f.mode == CUDNN_POINTWISE_RELU_FWD) {  // a run that has diverged shows it
    const cudnnNanPropagation_t propagation = CUDNN_PROPAGATE_NAN;
    function.set(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, 1, &propagation);
  }
  function.finalize();
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, descriptor(x));
  if (b != kNone) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, descriptor(b));
  if (condition != kNone) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, descriptor(condition));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, descriptor(y));
  append(operation);
}

void OperationGraph::reduce(cudnnReduceTensorOp_t operator_, Tensor x, Tensor y) {
  BackendDescriptor& reduction = make(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  reduction.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operator_);
  reduction.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  reduction.finalize();
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, reduction);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, descriptor(x));
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, descriptor(y));
  append(operation);
}

void OperationGraph::reshape(Tensor x, Tensor y) {
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, descriptor(x));
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, descriptor(y));
  append(operation);
}

std::vector<ExecutionPlan> OperationGraph::plan(const PlanLimits& limits, std::size_t most) {
  BackendDescriptor& graph = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations_);
  if (!target_.properties) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target_.handle);
  graph.finalize();
  const auto plan_of = [&](const Proposal& proposal) -> ExecutionPlan {
    const auto make = [parts = parts_, target = target_, configuration = proposal.configuration,
                       workspace = limits.workspace] {
      return build(std::make_shared<Kept>(parts, configuration, target.properties), target.handle, workspace);
    };
    return {.name = fmt::format("engine {}{}", proposal.engine, settings_of(*proposal.configuration)),
            .engine = proposal.engine,
            .notes = proposal.notes(),
            .uses_tensor_cores = proposal.has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE),
            .is_compiled = proposal.is_compiled(),
            .built = made_once(make)};
  };
  std::vector<ExecutionPlan> plans, compiled;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    if (plans.size() == most) break;  // fallbacks take longer to propose
    for (const Proposal& each : proposals(graph, target_, mode)) {
      std::vector<ExecutionPlan>& list = each.is_compiled() ? compiled : plans;
      if (list.size() == most || !each.is_within(limits)) continue;
      ExecutionPlan next = plan_of(each);
      const bool is_known = std::ranges::find(list, next.name, &ExecutionPlan::name) != list.end();
      if (is_known || (!next.is_compiled && !next.built().plan)) continue;
      list.push_back(std::move(next));
    }
  }
  compiled.resize(std::min(compiled.size(), most - plans.size()));
  std::ranges::move(compiled, std::back_inserter(plans));
  return plans;
}

std::shared_ptr<const BackendDescriptor> variant_pack(std::span<const std::int64_t> tensors,
                                                      std::span<void* const> addresses, void* workspace) {
  BackendDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, tensors);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, static_cast<std::int64_t>(addresses.size()),
           addresses.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize();
  return share(std::move(pack));
}

}  // namespace halfstep::cudnn
