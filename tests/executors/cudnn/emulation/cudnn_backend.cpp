// cuDNN's backend API: graphs of one convolution and additions and a ReLU behind it, and graphs
// of products, reductions and elementwise operations, of which attention is made.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include <cudnn.h>

#include "tests/executors/cudnn/emulation/convolution.h"
#include "tests/executors/cudnn/emulation/cudnn_handle.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/numbers.h"
#include "tests/executors/cudnn/emulation/pending_error.h"
#include "tests/executors/cudnn/emulation/tensor_order.h"

using halfstep::DType;

namespace {

using Dims = std::vector<std::int64_t>;

struct Attribute {
  cudnnBackendAttributeType_t type;
  std::int64_t count;
  std::vector<std::byte> bytes;
};

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes = {};
  bool is_final = false;
  int engine = -1;                    // of a configuration and an engine
  const Descriptor* graph = nullptr;  // of a configuration

  bool has(cudnnBackendAttributeName_t name) const { return attributes.contains(name); }
  template <class T>
  std::vector<T> all(cudnnBackendAttributeName_t name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> values(found->second.bytes.size() / sizeof(T));
    std::memcpy(values.data(), found->second.bytes.data(), values.size() * sizeof(T));
    return values;
  }
  template <class T>
  T one(cudnnBackendAttributeName_t name, T fallback = {}) const {
    const std::vector<T> values = all<T>(name);
    return values.empty() ? fallback : values[0];
  }
  const Descriptor& part(cudnnBackendAttributeName_t name) const {
    return *static_cast<const Descriptor*>(one<cudnnBackendDescriptor_t>(name));
  }
};

cudnnStatus_t refuse(const char* why, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
  emulation::refuse(why);
  return status;
}

std::size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_CHAR:
    case CUDNN_TYPE_BOOLEAN:
      return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

/// What the heuristic proposes, best first. The first is not to be taken where results are to repeat, the second not
/// where f32 is to stay f32; the last takes a compiler.
struct Engine {
  std::vector<cudnnBackendNumericalNote_t> notes;
  std::int64_t workspace;
  bool is_compiled = false;
};
const Engine kEngines[] = {
    {{CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, 0},
    {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, 8192},
    {{}, 4096},
    {{}, 1024},
    {{}, 512, true},
};

constexpr int kOnTensorCores = 1;

int compilations = 0;

struct Tensor {
  std::int64_t id;
  DType type;
  Dims dims;
  bool is_virtual;
  Dims strides;
  bool is_by_value;

  std::int64_t count() const {
    std::int64_t n = 1;
    for (const std::int64_t d : dims) n *= d;
    return n;
  }
  /// Where element i, in row-major order, lies.
  std::int64_t position(std::int64_t i) const {
    std::int64_t at = 0;
    for (std::size_t axis = dims.size(); axis-- > 0; i /= dims[axis]) at += i % dims[axis] * strides[axis];
    return at;
  }
  /// The bytes from the first element to the last.
  std::size_t bytes() const { return halfstep::bytes_of(type, static_cast<std::size_t>(position(count() - 1) + 1)); }
};
Tensor tensor_of(const Descriptor& d) {
  const auto type = d.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  return {d.one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID),
          type == CUDNN_DATA_HALF       ? DType::f16
          : type == CUDNN_DATA_BFLOAT16 ? DType::bf16
                                        : DType::f32,
          d.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS),
          d.one<unsigned char>(CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0,
          d.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES),
          d.one<unsigned char>(CUDNN_ATTR_TENSOR_IS_BY_VALUE) != 0};
}

/// Values of the tensors of one run, row-major.
class Values {
 public:
  Values(const std::map<std::int64_t, void*>& addresses) : addresses_(addresses) {}

  std::vector<double> read(const Tensor& t) const {
    if (t.is_virtual) return between_.at(t.id);
    std::vector<double> values(static_cast<std::size_t>(t.count()));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = emulation::load(t.type, addresses_.at(t.id), t.position(static_cast<std::int64_t>(i)));
    return values;
  }
  void write(const Tensor& t, std::vector<double> values) {
    if (t.is_virtual) {
      for (double& v : values) {
        alignas(double) std::byte rounded[sizeof(double)];
        emulation::store(t.type, rounded, 0, v);
        v = emulation::load(t.type, rounded, 0);
      }
      between_[t.id] = std::move(values);
      return;
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      emulation::store(t.type, addresses_.at(t.id), t.position(static_cast<std::int64_t>(i)), values[i]);
  }

 private:
  const std::map<std::int64_t, void*>& addresses_;
  std::map<std::int64_t, std::vector<double>> between_;
};

/// Which operands an operation of a convolution has.
struct Operands {
  Tensor x, w, y;
  const Descriptor* convolution;
};
Operands operands_of(const Descriptor& op) {
  const auto tensor = [&](cudnnBackendAttributeName_t name) { return tensor_of(op.part(name)); };
  if (op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
    return {tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X), tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
            tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y),
            &op.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC)};
  if (op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
    return {tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX), tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W),
            tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY),
            &op.part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC)};
  return {tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X), tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW),
          tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY),
          &op.part(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC)};
}

bool is_convolution(const Descriptor& op) {
  return op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
         op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
         op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

emulation::Convolution convolution_of(const Operands& o) {
  emulation::Convolution c{};
  const Descriptor& d = *o.convolution;
  const Dims before = d.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
             after = d.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
             strides = d.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
             dilations = d.all<std::int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const std::size_t axis = 3 - before.size() + i;
    c.w.input[axis] = o.x.dims[2 + i];
    c.w.output[axis] = o.y.dims[2 + i];
    c.w.kernel[axis] = o.w.dims[2 + i];
    c.w.stride[axis] = strides[i];
    c.w.dilation[axis] = dilations[i];
    c.w.pad_begin[axis] = before[i];
    c.w.pad_end[axis] = after[i];
  }
  c.batch = o.x.dims[0];
  c.channels = o.x.dims[1];
  c.filters = o.w.dims[0];
  c.group_channels = o.w.dims[1];
  c.group = c.channels / c.group_channels;
  return c;
}

/// Why the operation is none; empty when it is.
const char* fault_of(const Descriptor& op) {
  if (!is_convolution(op)) return "";
  const Operands o = operands_of(op);
  const emulation::Convolution c = convolution_of(o);
  if (o.y.dims[0] != c.batch || o.y.dims[1] != c.filters || c.group * c.group_channels != c.channels ||
      c.filters % c.group != 0)
    return "channels do not fit";
  for (std::size_t i = 0; i < 3; ++i) {
    const std::int64_t seen =
        c.w.input[i] + c.w.pad_begin[i] + c.w.pad_end[i] - (c.w.kernel[i] - 1) * c.w.dilation[i] - 1;
    if (seen / c.w.stride[i] + 1 != c.w.output[i]) return "the output's extents are not the convolution's";
  }
  return "";
}

void convolve(const Descriptor& op, Values& values) {
  const Operands o = operands_of(op);
  const emulation::Convolution c = convolution_of(o);
  const bool forward = op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
  const bool data = op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
  const Tensor &result = forward ? o.y
                         : data  ? o.x
                                 : o.w,
               &a = data || !forward ? o.y : o.x, &b = data || forward ? o.w : o.x;
  std::vector<double> sums(static_cast<std::size_t>(result.count())), first = values.read(a), second = values.read(b);
  for_each_product(c, [&](std::int64_t x, std::int64_t w, std::int64_t y) {
    const std::int64_t to = forward ? y : data ? x : w, i = forward ? x : y, k = forward || data ? w : x;
    sums[static_cast<std::size_t>(to)] += first[static_cast<std::size_t>(i)] * second[static_cast<std::size_t>(k)];
  });
  values.write(result, std::move(sums));
}

/// The element of `from` that element i of `to` is broadcast from.
std::size_t broadcast(const Tensor& from, const Tensor& to, std::int64_t i) {
  std::int64_t at = 0, step = 1;
  for (std::size_t axis = to.dims.size(); axis-- > 0;) {
    if (from.dims[axis] != 1) at += i % to.dims[axis] * step;
    step *= from.dims[axis];
    i /= to.dims[axis];
  }
  return static_cast<std::size_t>(at);
}

void apply_pointwise(const Descriptor& op, Values& values) {
  const auto tensor = [&](cudnnBackendAttributeName_t name) { return tensor_of(op.part(name)); };
  const Tensor x = tensor(CUDNN_ATTR_OPERATION_POINTWISE_XDESC), y = tensor(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
  const Descriptor& function = op.part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  const auto mode = function.one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
  const bool keeps_nan =
      function.one<cudnnNanPropagation_t>(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION) == CUDNN_PROPAGATE_NAN;
  const auto axis = static_cast<std::size_t>(function.one<std::int64_t>(CUDNN_ATTR_POINTWISE_AXIS));
  const auto operand = [&](cudnnBackendAttributeName_t name) {
    std::vector<double> all(static_cast<std::size_t>(y.count()));
    if (!op.has(name)) return all;
    const Tensor t = tensor(name);
    const std::vector<double> given = values.read(t);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = given[broadcast(t, y, static_cast<std::int64_t>(i))];
    return all;
  };
  const bool is_index = mode == CUDNN_POINTWISE_GEN_INDEX;
  std::vector<double> result = is_index ? std::vector<double>(static_cast<std::size_t>(y.count()))
                                        : operand(CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
  const std::vector<double> second = operand(CUDNN_ATTR_OPERATION_POINTWISE_BDESC),
                            condition = operand(CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
  std::int64_t inner = 1;
  for (std::size_t a = axis + 1; a < y.dims.size(); ++a) inner *= y.dims[a];
  for (std::size_t i = 0; i < result.size(); ++i) {
    double& v = result[i];
    const double b = second[i];
    switch (mode) {
      case CUDNN_POINTWISE_ADD:
        v += b;
        break;
      case CUDNN_POINTWISE_SUB:
        v -= b;
        break;
      case CUDNN_POINTWISE_MUL:
        v *= b;
        break;
      case CUDNN_POINTWISE_DIV:
        v /= b;
        break;
      case CUDNN_POINTWISE_EXP:
        v = std::exp(v);
        break;
      case CUDNN_POINTWISE_LOG:
        v = std::log(v);
        break;
      case CUDNN_POINTWISE_GEN_INDEX:
        v = static_cast<double>(static_cast<std::int64_t>(i) / inner % y.dims[axis]);
        break;
      case CUDNN_POINTWISE_CMP_GE:
        v = v >= b ? 1 : 0;
        break;
      case CUDNN_POINTWISE_BINARY_SELECT:
        v = condition[i] != 0 ? v : b;
        break;
      default:
        v = v < 0 || (std::isnan(v) && !keeps_nan) ? 0 : v;
    }
  }
  values.write(y, std::move(result));
}

/// Of the last two axes; heads of the first operand share those of the second.
void multiply(const Descriptor& op, Values& values) {
  const Tensor a = tensor_of(op.part(CUDNN_ATTR_OPERATION_MATMUL_ADESC)),
               b = tensor_of(op.part(CUDNN_ATTR_OPERATION_MATMUL_BDESC)),
               y = tensor_of(op.part(CUDNN_ATTR_OPERATION_MATMUL_CDESC));
  const std::vector<double> left = values.read(a), right = values.read(b);
  std::vector<double> result;
  const std::int64_t rows = y.dims[2], columns = y.dims[3], inner = a.dims[3], shared = a.dims[1] / b.dims[1];
  for (std::int64_t n = 0; n < y.dims[0] * y.dims[1]; ++n) {
    const std::int64_t other = n / y.dims[1] * b.dims[1] + n % y.dims[1] / shared;
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < inner; ++k)
          sum += left[static_cast<std::size_t>((n * rows + i) * inner + k)] *
                 right[static_cast<std::size_t>((other * inner + k) * columns + j)];
        result.push_back(sum);
      }
  }
  values.write(y, std::move(result));
}

/// An element of the result is made of those that its indices, times the ratio of extents, begin.
void reduce(const Descriptor& op, Values& values) {
  const Tensor x = tensor_of(op.part(CUDNN_ATTR_OPERATION_REDUCTION_XDESC)),
               y = tensor_of(op.part(CUDNN_ATTR_OPERATION_REDUCTION_YDESC));
  const bool is_sum =
      op.part(CUDNN_ATTR_OPERATION_REDUCTION_DESC).one<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR) ==
      CUDNN_REDUCE_TENSOR_ADD;
  std::vector<double> result(static_cast<std::size_t>(y.count()), is_sum ? 0 : -INFINITY);
  const std::vector<double> all = values.read(x);
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::int64_t rest = static_cast<std::int64_t>(i), at = 0, step = 1;
    for (std::size_t axis = x.dims.size(); axis-- > 0; rest /= x.dims[axis]) {
      at += rest % x.dims[axis] * y.dims[axis] / x.dims[axis] * step;
      step *= y.dims[axis];
    }
    double& to = result[static_cast<std::size_t>(at)];
    to = is_sum ? to + all[i] : all[i] > to || std::isnan(all[i]) ? all[i] : to;
  }
  values.write(y, std::move(result));
}

/// The same memory under other strides.
void reshape(const Descriptor& op, Values& values) {
  const Tensor x = tensor_of(op.part(CUDNN_ATTR_OPERATION_RESHAPE_XDESC)),
               y = tensor_of(op.part(CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
  std::map<std::int64_t, double> memory;
  const std::vector<double> all = values.read(x);
  for (std::size_t i = 0; i < all.size(); ++i) memory[x.position(static_cast<std::int64_t>(i))] = all[i];
  std::vector<double> result;
  for (std::int64_t i = 0; i < y.count(); ++i) result.push_back(memory.at(y.position(i)));
  values.write(y, std::move(result));
}

void apply(const Descriptor& op, Values& values) {
  switch (op.type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      return apply_pointwise(op, values);
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      return multiply(op, values);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      return reduce(op, values);
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      return reshape(op, values);
    default:
      return convolve(op, values);
  }
}

Descriptor& as_descriptor(cudnnBackendDescriptor_t d) { return *static_cast<Descriptor*>(d); }

const char* fault_of_final(const Descriptor& d) {
  switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: {
      const Dims dims = d.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
      const Dims strides = d.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
      if (dims.size() < 4 || dims.size() > 5 || strides.size() != dims.size()) return "a tensor has 4 or 5 axes";
      for (const std::int64_t stride : strides)
        if (stride < 1) return "a stride that is not positive";
      return "";
    }
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      for (const cudnnBackendDescriptor_t op : d.all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS))
        if (const char* fault = fault_of(as_descriptor(op)); *fault) return fault;
      if (!emulation::machine().can_fuse && d.all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS).size() > 1)
        return "the machine was told to take single operations only";
      return d.has(CUDNN_ATTR_OPERATIONGRAPH_OPS) ? "" : "a graph without operations";
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return d.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() ==
                     d.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size()
                 ? ""
                 : "an address for each tensor";
    default:
      return "";
  }
}

}  // namespace

int emulation::plans_compiled() { return compilations; }

extern "C" {

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* made) {
  if (emulation::fails("descriptor")) return CUDNN_STATUS_BAD_PARAM;
  *made = new Descriptor{type};
  emulation::count_object(1);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
  delete static_cast<Descriptor*>(d);
  emulation::count_object(-1);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
  Descriptor& to = as_descriptor(d);
  if (to.is_final) return refuse("a descriptor that is finalized does not change");
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
    for (std::int64_t i = 0; i < count; ++i)
      if (!as_descriptor(static_cast<const cudnnBackendDescriptor_t*>(values)[i]).is_final)
        return refuse("a part that is not finalized");
  const auto* bytes = static_cast<const std::byte*>(values);
  to.attributes[name] = {type, count, {bytes, bytes + static_cast<std::size_t>(count) * size_of(type)}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
  Descriptor& to = as_descriptor(d);
  if (to.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
    if (emulation::fails("heuristic")) return CUDNN_STATUS_NOT_SUPPORTED;
    if (!emulation::machine().can_plan ||
        to.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) != CUDNN_HEUR_MODE_A)
      return CUDNN_STATUS_NOT_SUPPORTED;
  }
  if (const char* fault = fault_of_final(to); *fault) return refuse(fault);
  if (to.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
      kEngines[to.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine].is_compiled)
    ++compilations;
  to.is_final = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(const cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, std::int64_t room, std::int64_t* count,
                                       void* values) {
  const Descriptor& from = as_descriptor(d);
  const auto parts = static_cast<cudnnBackendDescriptor_t*>(values);
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      const Descriptor& graph = from.part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
      const bool is_fused = graph.all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS).size() > 1;
      std::vector<int> engines;
      for (int i = 0; i < static_cast<int>(std::size(kEngines)); ++i)
        if (!is_fused || emulation::machine().fuses_on_tensor_cores || i != kOnTensorCores) engines.push_back(i);
      *count = static_cast<std::int64_t>(engines.size());
      for (std::int64_t i = 0; i < std::min(room, *count); ++i) {
        Descriptor& to = as_descriptor(parts[i]);
        to.engine = engines[static_cast<std::size_t>(i)];
        to.graph = &graph;
        to.is_final = true;
      }
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      *count = 1;
      if (room) as_descriptor(parts[0]).engine = from.engine;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      *count = 1;
      *static_cast<std::int64_t*>(values) = from.engine;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      if (!emulation::machine().tells_notes) return refuse("the machine was told so", CUDNN_STATUS_NOT_SUPPORTED);
      *count = static_cast<std::int64_t>(kEngines[from.engine].notes.size());
      std::ranges::copy(kEngines[from.engine].notes, static_cast<cudnnBackendNumericalNote_t*>(values));
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
      *count = kEngines[from.engine].is_compiled ? 1 : 0;
      if (*count) *static_cast<cudnnBackendBehaviorNote_t*>(values) = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      *count = 1;
      *static_cast<std::int64_t*>(values) =
          kEngines[from.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine].workspace;
      return CUDNN_STATUS_SUCCESS;
    default:
      return refuse("an attribute that is not emulated", CUDNN_STATUS_NOT_SUPPORTED);
  }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  const Descriptor &configuration = as_descriptor(plan).part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG),
                   &given = as_descriptor(pack);
  const Engine& engine = kEngines[configuration.engine];
  std::map<std::int64_t, void*> addresses;
  const auto ids = given.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = given.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  for (std::size_t i = 0; i < ids.size(); ++i) addresses[ids[i]] = pointers[i];
  auto* workspace = given.one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  const auto bytes = static_cast<std::size_t>(engine.workspace);
  if (bytes && !emulation::is_device(workspace, bytes)) return refuse("the workspace is too small");
  if (configuration.engine == 0) return refuse("an engine that is not deterministic");

  const auto operations = configuration.graph->all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  std::vector<const Descriptor*> all;
  for (const cudnnBackendDescriptor_t each : operations) {
    all.push_back(&as_descriptor(each));
    if (is_convolution(*all.back()) && configuration.engine == 1) {
      const Operands o = operands_of(*all.back());
      if (o.x.type == DType::f32 && o.w.type == DType::f32 && o.y.type == DType::f32)
        return refuse("f32 would be rounded to TF32");
    }
    for (const auto& [name, attribute] : all.back()->attributes) {
      if (attribute.type != CUDNN_TYPE_BACKEND_DESCRIPTOR ||
          all.back()->part(name).type != CUDNN_BACKEND_TENSOR_DESCRIPTOR)
        continue;
      const Tensor t = tensor_of(all.back()->part(name));
      if (t.is_virtual) continue;
      if (!addresses.contains(t.id)) return refuse("a tensor without an address");
      if (t.is_by_value) continue;
      if (!emulation::is_device(addresses[t.id], t.bytes())) return refuse("a tensor does not lie in device memory");
      const std::int64_t alignment = all.back()->part(name).one<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
      if (reinterpret_cast<std::uintptr_t>(addresses[t.id]) % static_cast<std::uintptr_t>(alignment) != 0)
        return refuse("a tensor that is not aligned as was said", CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    }
  }
  const std::size_t failing = emulation::machine().failing_workspace;
  if (failing && bytes >= failing) {
    emulation::leave_error(cudaErrorMemoryAllocation);
    return CUDNN_STATUS_ALLOC_FAILED;
  }
  emulation::submit(handle->stream, [all, addresses, workspace, bytes] {
    if (bytes) std::memset(workspace, 0xee, bytes);
    Values values(addresses);
    for (const Descriptor* op : all) apply(*op, values);
  });
  return CUDNN_STATUS_SUCCESS;
}
}
