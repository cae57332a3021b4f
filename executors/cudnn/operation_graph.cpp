#include "executors/cudnn/operation_graph.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executors/cudnn/descriptors.h"

namespace halfstep::cudnn {
namespace {

/// [N, C, L] as [N, C, 1, L].
std::vector<std::int64_t> padded(const Shape& shape) {
  std::vector<std::int64_t> dims = shape.dims();
  if (dims.size() == 3) dims.insert(dims.begin() + 2, 1);
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
    if (has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)) all.emplace_back("compiled at run time");
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

/// What a plan refers to, as long as it lives.
struct Kept {
  std::shared_ptr<std::deque<BackendDescriptor>> parts;
  std::shared_ptr<const BackendDescriptor> configuration, properties;
  BackendDescriptor plan{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
};

/// What `make` gives when the result, or a copy of it, is called first.
template <class F>
std::function<std::shared_ptr<const BackendDescriptor>()> made_once(F make) {
  struct Late {
    std::mutex mutex;
    std::shared_ptr<const BackendDescriptor> made;
  };
  return [make, late = std::make_shared<Late>()] {
    const std::lock_guard lock(late->mutex);
    if (!late->made) late->made = make();
    return late->made;
  };
}

/// A configuration ready to run.
struct Finished {
  std::shared_ptr<const BackendDescriptor> plan;
  std::size_t workspace = 0;
};
/// Nothing where cuDNN refuses, or where it takes more workspace than `most`.
Finished finish(std::shared_ptr<Kept> kept, cudnnHandle_t handle, std::size_t most) {
  BackendDescriptor& plan = kept->plan;
  if (!kept->properties) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, *kept->configuration);
  if (kept->properties) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *kept->properties);
  if (!plan.try_finalize()) return {};
  const std::optional<std::int64_t> bytes = plan.number(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  if (!bytes || static_cast<std::size_t>(*bytes) > most) return {};
  return {{kept, &kept->plan}, static_cast<std::size_t>(*bytes)};
}

}  // namespace

BackendDescriptor& OperationGraph::make(cudnnBackendDescriptorType_t type) { return parts_->emplace_back(type); }

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
OperationGraph::Tensor OperationGraph::between(const Shape& shape) {
  const std::vector<std::int64_t> dims = padded(shape);
  return add_tensor(CUDNN_DATA_FLOAT, dims, strides_in(order_, dims), CUDNN_ATTR_TENSOR_IS_VIRTUAL);
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
  operation.finalize();
  operations_.push_back(operation.get());
}

void OperationGraph::add(Tensor x, Tensor b, Tensor y) { pointwise({CUDNN_POINTWISE_ADD}, x, b, y); }
void OperationGraph::relu(Tensor x, Tensor y) { pointwise({CUDNN_POINTWISE_RELU_FWD}, x, kNone, y); }

void OperationGraph::matmul(Tensor a, Tensor b, Tensor y) {
  BackendDescriptor& product = make(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  product.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  product.finalize();
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, product);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, descriptor(a));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, descriptor(b));
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, descriptor(y));
  operation.finalize();
  operations_.push_back(operation.get());
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
  operation.finalize();
  operations_.push_back(operation.get());
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
  operation.finalize();
  operations_.push_back(operation.get());
}

void OperationGraph::reshape(Tensor x, Tensor y) {
  BackendDescriptor& operation = make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, descriptor(x));
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, descriptor(y));
  operation.finalize();
  operations_.push_back(operation.get());
}

std::vector<ExecutionPlan> OperationGraph::plan(const PlanLimits& limits, std::size_t most) {
  BackendDescriptor& graph = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations_);
  if (!target_.properties) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target_.handle);
  graph.finalize();
  std::vector<Proposal> all;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (Proposal& each : proposals(graph, target_, mode))
      if (each.is_within(limits)) all.push_back(std::move(each));
  std::ranges::stable_partition(all, [](const Proposal& p) { return !p.has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION); });

  std::vector<ExecutionPlan> plans;
  for (const Proposal& each : all) {
    if (plans.size() == most) break;
    const std::size_t workspace = plans.empty() ? limits.workspace : plans.front().workspace;
    const auto make = [parts = parts_, target = target_, configuration = each.configuration, workspace] {
      return finish(std::make_shared<Kept>(parts, configuration, target.properties), target.handle, workspace);
    };
    ExecutionPlan next;
    next.engine = each.engine;
    next.notes = each.notes();
    next.uses_tensor_cores = each.has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    // Compiling takes seconds each: not before an alternate is run.
    if (!plans.empty() && each.has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)) {
      next.plan = made_once([make] { return make().plan; });
    } else {
      const Finished made = make();
      if (!made.plan) continue;
      next.plan = [plan = made.plan] { return plan; };
      next.workspace = made.workspace;
    }
    plans.push_back(std::move(next));
  }
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
