#include "tests/executors/cudnn/emulation/backend_operations.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tests/executors/cudnn/emulation/backend_normalization.h"
#include "tests/executors/cudnn/emulation/backend_values.h"
#include "tests/executors/cudnn/emulation/convolution.h"
#include "tests/executors/cudnn/emulation/emulation.h"

namespace emulation {
namespace {

using halfstep::DType;

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

Convolution convolution_of(const Operands& o) {
  Convolution c{};
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

void convolve(const Descriptor& op, Values& values) {
  const Operands o = operands_of(op);
  const Convolution c = convolution_of(o);
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
  const auto propagation = function.one<cudnnNanPropagation_t>(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION);
  const bool keeps_nan = machine().keeps_nan && propagation == CUDNN_PROPAGATE_NAN;
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

/// As the machine code of cuDNN 9.19 has it: NaN counts as positive, infinity as beyond the largest that passes.
void apply_relu_gradient(const Descriptor& op, Values& values) {
  const std::vector<double> x = values.read(tensor_of(op.part(CUDNN_ATTR_OPERATION_POINTWISE_XDESC)));
  std::vector<double> result = values.read(tensor_of(op.part(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC)));
  for (std::size_t i = 0; i < result.size(); ++i)
    if (x[i] <= 0 || x[i] == INFINITY) result[i] = 0;
  values.write(tensor_of(op.part(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC)), std::move(result));
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
      return op.has(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC) ? apply_relu_gradient(op, values)
                                                           : apply_pointwise(op, values);
    case CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR:
      return normalize(op, values);
    case CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR:
      return normalize_gradient(op, values);
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

}  // namespace

bool is_convolution(const Descriptor& op) {
  return op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
         op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
         op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

bool is_of_f32(const Descriptor& convolution) {
  const Operands o = operands_of(convolution);
  return o.x.type == DType::f32 && o.w.type == DType::f32 && o.y.type == DType::f32;
}

bool has_engines(const std::vector<const Descriptor*>& operations) {
  return std::ranges::none_of(operations, [](const Descriptor* op) { return is_normalization(*op); }) ||
         is_known_normalization(operations);
}

const char* fault_of(const Descriptor& op) {
  if (!is_convolution(op)) return "";
  const Operands o = operands_of(op);
  const Convolution c = convolution_of(o);
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

void apply(const std::vector<const Descriptor*>& operations, const std::map<std::int64_t, void*>& addresses) {
  Values values(addresses);
  for (const Descriptor* op : operations) apply(*op, values);
}

}  // namespace emulation
