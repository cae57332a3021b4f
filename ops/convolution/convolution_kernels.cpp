#include "ops/convolution/convolution_kernels.h"

#include <algorithm>

#include <fmt/format.h>

#include "ops/convolution/window.h"
#include "ops/epilogue.h"
#include "ops/type_attributes.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

/// A convolution of x [N, C, ...] with w [M, C/group, ...] to y [N, M, ...], whichever of the three is computed.
struct Convolution {
  std::int64_t batch, in_channels, out_channels, group;
  std::size_t axes;  // spatial ones
  Window window;

  Convolution(const Attributes& attributes, const Shape& x, const Shape& w)
      : axes(x.rank() - 2), window(make_window(attributes, spatial(x), spatial(w))) {
    batch = x[0];
    in_channels = x[1];
    out_channels = w[0];
    group = attributes.get_int("group", 1);
    if (group < 1 || in_channels % group != 0 || in_channels / group != w[1] || out_channels % group != 0)
      throw_input_error("weights [M, C/group, ...] with M a multiple of group",
                        fmt::format("input {}, weights {}, group {}", x.to_string(), w.to_string(), group),
                        "check the convolution's weights and its attribute group");
  }

  std::int64_t x_count() const { return batch * in_channels * window.input_count(); }
  std::int64_t y_count() const { return batch * out_channels * window.output_count(); }
  std::int64_t w_count() const { return out_channels * (in_channels / group) * window.kernel_count(); }

  Shape y_shape() const {
    std::vector<std::int64_t> dims = {batch, out_channels};
    dims.insert(dims.end(), window.output.end() - static_cast<std::ptrdiff_t>(axes), window.output.end());
    return Shape(std::move(dims));
  }
  /// Throws Error unless y has the shape of the result of this convolution.
  void check_output(const Shape& y) const {
    if (y != y_shape())
      throw_input_error("an operand of shape " + y_shape().to_string(), y.to_string(),
                        "check the attributes of the gradient of the convolution");
  }
};

/// Calls `row(w, x, y, count)` for runs of `count` positions along the last axis: element y + i of the output reads
/// element x + i * stride of the input times element w of the weights.
template <class F>
void for_each_row(const Convolution& c, F&& row) {
  const Window& win = c.window;
  const std::int64_t group_in = c.in_channels / c.group, group_out = c.out_channels / c.group;
  for (std::int64_t n = 0; n < c.batch; ++n)
    for (std::int64_t m = 0; m < c.out_channels; ++m) {
      std::int64_t w = m * group_in * win.kernel_count();
      const std::int64_t y_plane = (n * c.out_channels + m) * win.output_count();
      for (std::int64_t ci = 0; ci < group_in; ++ci) {
        const std::int64_t x_plane = (n * c.in_channels + m / group_out * group_in + ci) * win.input_count();
        for (std::int64_t k0 = 0; k0 < win.kernel[0]; ++k0)
          for (std::int64_t k1 = 0; k1 < win.kernel[1]; ++k1)
            for (std::int64_t k2 = 0; k2 < win.kernel[2]; ++k2, ++w) {
              const Run run0 = run_inside(win, 0, k0), run1 = run_inside(win, 1, k1), run2 = run_inside(win, 2, k2);
              if (run2.first >= run2.last) continue;
              for (std::int64_t o0 = run0.first; o0 < run0.last; ++o0)
                for (std::int64_t o1 = run1.first; o1 < run1.last; ++o1) {
                  const std::int64_t x_row = win.position(0, o0, k0) * win.input[1] + win.position(1, o1, k1);
                  const std::int64_t y_row = o0 * win.output[1] + o1;
                  row(w, x_plane + x_row * win.input[2] + win.position(2, run2.first, k2),
                      y_plane + y_row * win.output[2] + run2.first, run2.last - run2.first);
                }
            }
      }
    }
}

std::vector<double> zeros(std::int64_t count) { return std::vector<double>(static_cast<std::size_t>(count)); }

/// y = convolution of x with w.
std::vector<double> forward(const Convolution& c, const std::vector<double>& x, const std::vector<double>& w) {
  std::vector<double> y = zeros(c.y_count());
  const std::int64_t stride = c.window.stride[2];
  for_each_row(c, [&](std::int64_t wi, std::int64_t xi, std::int64_t yi, std::int64_t count) {
    const double factor = w[wi];
    const double* from = x.data() + xi;
    double* to = y.data() + yi;
    for (std::int64_t i = 0; i < count; ++i) to[i] += factor * from[i * stride];
  });
  return y;
}

/// The gradient of `forward` with respect to x, from the one with respect to y.
std::vector<double> backward_input(const Convolution& c, const std::vector<double>& dy, const std::vector<double>& w) {
  std::vector<double> dx = zeros(c.x_count());
  const std::int64_t stride = c.window.stride[2];
  for_each_row(c, [&](std::int64_t wi, std::int64_t xi, std::int64_t yi, std::int64_t count) {
    const double factor = w[wi];
    const double* from = dy.data() + yi;
    double* to = dx.data() + xi;
    for (std::int64_t i = 0; i < count; ++i) to[i * stride] += factor * from[i];
  });
  return dx;
}

/// The gradient of `forward` with respect to w.
std::vector<double> backward_weight(const Convolution& c, const std::vector<double>& dy, const std::vector<double>& x) {
  std::vector<double> dw = zeros(c.w_count());
  const std::int64_t stride = c.window.stride[2];
  for_each_row(c, [&](std::int64_t wi, std::int64_t xi, std::int64_t yi, std::int64_t count) {
    const double* from = x.data() + xi;
    const double* dyr = dy.data() + yi;
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += dyr[i] * from[i * stride];
    dw[wi] += sum;
  });
  return dw;
}

/// Adds bias[channel] to y [batch, channels, plane].
void add_bias(std::vector<double>& y, const Tensor& bias, std::int64_t channels, std::int64_t plane) {
  if (bias.count() != channels)
    throw_input_error(fmt::format("a bias of {} elements", channels), bias.shape().to_string(),
                      "check the model's weights");
  const std::vector<double> b = to_doubles(bias);
  for (std::size_t i = 0; i < y.size(); ++i)
    y[i] += b[i / static_cast<std::size_t>(plane) % static_cast<std::size_t>(channels)];
}

}  // namespace

void check_convolution(const Attributes& attributes, const Shape& x, const Shape& w) { Convolution(attributes, x, w); }

void check_convolution_gradient(const Attributes& attributes, const Shape& x, const Shape& w, const Shape& dy) {
  if (x.rank() < 3 || w.rank() != x.rank())
    throw_input_error("input and weights of one rank, with one to three spatial axes",
                      x.to_string() + " and " + w.to_string(),
                      "check the attributes of the gradient of the convolution");
  Convolution(attributes, x, w).check_output(dy);
}

void conv_kernel(KernelCall& call) {
  const Tensor &x = call.in[0], &w = call.in[1];
  const Convolution c(call.node.attributes, x.shape(), w.shape());
  std::vector<double> y = forward(c, to_doubles(x), to_doubles(w));
  if (call.has_in(2)) add_bias(y, call.in[2], c.out_channels, c.window.output_count());
  if (call.has_in(3)) {
    c.check_output(call.in[3].shape());
    const std::vector<double> residual = to_doubles(call.in[3]);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += residual[i];
  }
  if (const Epilogue last = epilogue_of(call.node.attributes))
    for (double& value : y) value = last(value);
  store(ensure_out(call, 0, to_type(call.node, x.dtype()), c.y_shape()), y);
}

void conv_grad_input_kernel(KernelCall& call) {
  const Tensor &dy = call.in[0], &w = call.in[1];
  const Shape shape(call.node.attributes.get_ints("input_shape"));
  const Convolution c(call.node.attributes, shape, w.shape());
  c.check_output(dy.shape());
  store(ensure_out(call, 0, dy.dtype(), shape), backward_input(c, to_doubles(dy), to_doubles(w)));
}

void conv_grad_weight_kernel(KernelCall& call) {
  const Tensor &dy = call.in[0], &x = call.in[1];
  const Shape shape(call.node.attributes.get_ints("weight_shape"));
  const Convolution c(call.node.attributes, x.shape(), shape);
  c.check_output(dy.shape());
  store(ensure_out(call, 0, to_type(call.node, dy.dtype()), shape), backward_weight(c, to_doubles(dy), to_doubles(x)));
}

Transposition transposition_of(const Attributes& attributes, const Shape& x, const Shape& w) {
  const std::span<const std::int64_t> in = spatial(x), kernel = spatial(w);
  const std::size_t axes = in.size();
  check_kernel_shape(attributes, kernel);
  const std::int64_t group = attributes.get_int("group", 1);
  if (kernel.size() != axes || group < 1 || group > w[0] || x[1] != w[0] || w[0] % group != 0)
    throw_input_error("weights [C, M/group, ...] with C a multiple of group",
                      fmt::format("input {}, weights {}, group {}", x.to_string(), w.to_string(), group),
                      "check the convolution's weights and its attribute group");
  const auto strides = window_ints(attributes, "strides", axes, 1, 1);
  const auto dilations = window_ints(attributes, "dilations", axes, 1, 1);
  const auto padding = window_ints(attributes, "output_padding", axes, 0, 0);
  const auto extents = window_ints(attributes, "output_shape", axes, 0, 0);
  const std::string auto_pad = attributes.get_string("auto_pad", "NOTSET");
  const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";

  Transposition t;
  t.pads = window_ints(attributes, "pads", 2 * axes, 0, 0);
  std::vector<std::int64_t> dims = {x[0], w[1] * group};
  for (std::size_t i = 0; i < axes; ++i) {
    if (in[i] < 1)
      throw_input_error("at least one element along each spatial axis", x.to_string(),
                        "check the shapes fed to this operator");
    const std::int64_t reach = (kernel[i] - 1) * dilations[i] + 1;
    const std::int64_t full = strides[i] * (in[i] - 1) + padding[i] + reach;
    std::int64_t total = t.pads[i] + t.pads[i + axes];
    std::int64_t extent = full - total;
    if (attributes.has("output_shape") || same) {
      extent = attributes.has("output_shape") ? extents[i] : std::min(full, in[i] * strides[i]);
      total = std::max<std::int64_t>(0, full - extent);
      t.pads[i] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
    }
    if (extent < 0)
      throw_input_error("pads that leave something of ConvTranspose's result",
                        fmt::format("{} along an axis that the input makes {} long", total, full), "correct the model");
    dims.push_back(extent);
    const std::int64_t reached = strides[i] * (in[i] - 1) + reach - t.pads[i];
    t.pads[i + axes] = std::max<std::int64_t>(0, reached - extent);
    t.reached.push_back(extent - reached < strides[i] ? extent : reached);
  }
  t.output = Shape(std::move(dims));
  return t;
}

Attributes common_attributes(const Attributes& attributes) {
  Attributes result;
  for (const char* name : {"dilations", "group", "strides"})
    if (const Attribute* value = attributes.find(name)) result.set(name, *value);
  return result;
}

Attributes transposed_attributes(const Attributes& attributes, const Transposition& t) {
  Attributes result = common_attributes(attributes);
  result.set("pads", t.pads);
  return result;
}

void conv_transpose_kernel(KernelCall& call) {
  const Tensor &x = call.in[0], &w = call.in[1];
  const Transposition t = transposition_of(call.node.attributes, x.shape(), w.shape());
  Convolution c(transposed_attributes(call.node.attributes, t), t.output, w.shape());
  // The convolution has more positions than x if output_padding is at least a stride, or output_shape is larger than
  // the part that x reaches: those additional outputs only get the bias.
  const std::span<const std::int64_t> extents = spatial(x.shape());
  std::copy(extents.begin(), extents.end(), c.window.output.end() - static_cast<std::ptrdiff_t>(extents.size()));
  c.check_output(x.shape());
  std::vector<double> y = backward_input(c, to_doubles(x), to_doubles(w));
  if (call.has_in(2)) add_bias(y, call.in[2], c.in_channels, c.window.input_count());
  store(ensure_out(call, 0, x.dtype(), t.output), y);
}

}  // namespace halfstep::ops
