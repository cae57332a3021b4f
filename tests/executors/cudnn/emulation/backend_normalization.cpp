#include "tests/executors/cudnn/emulation/backend_normalization.h"

#include <cmath>
#include <string>

#include "tests/executors/cudnn/emulation/emulation.h"

namespace emulation {
namespace {

bool is_training(const Descriptor& op) {
  return op.one<cudnnBackendNormFwdPhase_t>(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE) == CUDNN_NORM_FWD_TRAINING;
}

/// One letter for an operation: n, i: a normalization by the batch's statistics or by given ones; b: the gradient; a:
/// an addition; r, g: a ReLU and its gradient.
char letter_of(const Descriptor& op) {
  if (op.type == CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR) return 'b';
  if (op.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR) return is_training(op) ? 'n' : 'i';
  if (op.type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) return '?';
  switch (op.part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR).one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE)) {
    case CUDNN_POINTWISE_ADD:
      return 'a';
    case CUDNN_POINTWISE_RELU_FWD:
      return 'r';
    case CUDNN_POINTWISE_RELU_BWD:
      return 'g';
    default:
      return '?';
  }
}

cudnnBackendAttributeName_t x_of(const Descriptor& op) {
  if (op.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR) return CUDNN_ATTR_OPERATION_NORM_FWD_XDESC;
  if (op.type == CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR) return CUDNN_ATTR_OPERATION_NORM_BWD_XDESC;
  return CUDNN_ATTR_OPERATION_POINTWISE_XDESC;
}

bool has_channels_together(const Tensor& x) {
  return x.strides[1] == 1 && halfstep::bytes_of(x.type, static_cast<std::size_t>(x.dims[1])) % 16 == 0;
}

/// The channel of element i of x.
std::size_t channel_of(const Tensor& x, std::size_t i) {
  const std::int64_t inner = x.count() / x.dims[0] / x.dims[1];
  return static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner % x.dims[1]);
}
/// Sums over the channels of x of what `f` gives of element i.
template <class F>
std::vector<double> sums_of(const Tensor& x, const F& f) {
  std::vector<double> sums(static_cast<std::size_t>(x.dims[1]));
  for (std::size_t i = 0; i < static_cast<std::size_t>(x.count()); ++i) sums[channel_of(x, i)] += f(i);
  return sums;
}
double elements_of(const Tensor& x) { return static_cast<double>(x.count() / x.dims[1]); }

}  // namespace

bool is_normalization(const Descriptor& op) {
  return op.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR ||
         op.type == CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR;
}

bool is_known_normalization(const std::vector<const Descriptor*>& operations) {
  if (machine().major < 8) return false;
  std::string form;
  for (const Descriptor* op : operations) {
    form += letter_of(*op);
    if (form.back() == '?') return false;
    if (!has_channels_together(tensor_of(op->part(x_of(*op))))) return false;
  }
  // Between a ReLU's gradient and that of the normalization, cuDNN wants the type of the operands.
  if (form == "igb" && tensor_of(operations[1]->part(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC)).type !=
                           tensor_of(operations[1]->part(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC)).type)
    return false;
  return form == "n" || form == "nr" || form == "nar" || form == "b" || form == "igb";
}

void normalize(const Descriptor& op, Values& values) {
  const auto tensor = [&](cudnnBackendAttributeName_t name) { return tensor_of(op.part(name)); };
  const Tensor x = tensor(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC);
  const Tensor at_mean = tensor(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC),
               at_inverse = tensor(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC);
  const std::vector<double> elements = values.read(x),
                            scale = values.read(tensor(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC)),
                            bias = values.read(tensor(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC));
  if (is_training(op)) {
    const double epsilon = values.read(tensor(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC))[0];
    std::vector<double> mean = sums_of(x, [&](std::size_t i) { return elements[i]; });
    for (double& m : mean) m /= elements_of(x);
    std::vector<double> inverse =
        sums_of(x, [&](std::size_t i) { return std::pow(elements[i] - mean[channel_of(x, i)], 2); });
    for (double& squares : inverse) squares = 1 / std::sqrt(squares / elements_of(x) + epsilon);
    values.write(at_mean, std::move(mean));
    values.write(at_inverse, std::move(inverse));
  }
  const std::vector<double> mean = values.read(at_mean), inverse = values.read(at_inverse);
  std::vector<double> result = elements;
  for (std::size_t i = 0; i < result.size(); ++i) {
    const std::size_t c = channel_of(x, i);
    result[i] = (result[i] - mean[c]) * inverse[c] * scale[c] + bias[c];
  }
  values.write(tensor(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC), std::move(result));
}

void normalize_gradient(const Descriptor& op, Values& values) {
  const auto tensor = [&](cudnnBackendAttributeName_t name) { return tensor_of(op.part(name)); };
  const Tensor x = tensor(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC);
  const std::vector<double> mean = values.read(tensor(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC)),
                            inverse = values.read(tensor(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC)),
                            scale = values.read(tensor(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC)),
                            dy = values.read(tensor(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC));
  std::vector<double> normalized = values.read(x);
  for (std::size_t i = 0; i < normalized.size(); ++i) {
    const std::size_t c = channel_of(x, i);
    normalized[i] = (normalized[i] - mean[c]) * inverse[c];
  }
  const std::vector<double> sums = sums_of(x, [&](std::size_t i) { return dy[i]; }),
                            products = sums_of(x, [&](std::size_t i) { return dy[i] * normalized[i]; });
  std::vector<double> result = dy;
  for (std::size_t i = 0; i < result.size(); ++i) {
    const std::size_t c = channel_of(x, i);
    result[i] = scale[c] * inverse[c] * (dy[i] - (sums[c] + normalized[i] * products[c]) / elements_of(x));
  }
  values.write(tensor(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC), std::move(result));
  values.write(tensor(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC), products);
  values.write(tensor(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC), sums);
}

}  // namespace emulation
