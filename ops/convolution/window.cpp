#include "ops/convolution/window.h"

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

constexpr std::size_t kMaxSpatial = 3;
constexpr std::int64_t kMost = INT32_MAX;  // for every extent, stride and pad: products of two fit 63 bits

void check_spatial(std::span<const std::int64_t> input, std::span<const std::int64_t> kernel) {
  if (input.size() > kMaxSpatial)
    throw_input_error(fmt::format("at most {} spatial axes", kMaxSpatial), std::to_string(input.size()),
                      "fold axes together before the convolution or pooling");
  if (kernel.size() != input.size())
    throw_input_error(fmt::format("a kernel with {} axes", input.size()), std::to_string(kernel.size()),
                      "give the kernel one extent for each spatial axis");
  for (std::int64_t extent : kernel)
    if (extent > kMost)
      throw_input_error(fmt::format("kernel extents of at most {}", kMost), std::to_string(extent),
                        "correct the model");
}

void check_ceil_mode(const Attributes& attributes) {
  const std::int64_t ceil_mode = attributes.get_int("ceil_mode", 0);
  if (ceil_mode != 0 && ceil_mode != 1)
    throw_input_error("attribute ceil_mode 0 or 1", std::to_string(ceil_mode), "correct the model");
}

}  // namespace

std::vector<std::int64_t> window_ints(const Attributes& attributes, std::string_view name, std::size_t length,
                                      std::int64_t fallback, std::int64_t least) {
  std::vector<std::int64_t> values = attributes.get_ints(name, std::vector<std::int64_t>(length, fallback));
  if (values.size() != length)
    throw_input_error(fmt::format("attribute {} with {} values", name, length), fmt::format("{} values", values.size()),
                      "give one value for each spatial axis (two for pads)");
  for (std::int64_t value : values)
    if (value < least || value > kMost)
      throw_input_error(fmt::format("values of attribute {} from {} to {}", name, least, kMost), std::to_string(value),
                        "correct the model");
  return values;
}

std::span<const std::int64_t> spatial(const Shape& shape) {
  if (shape.rank() < 2)
    throw_input_error("a tensor of shape [N, C, D1, ...]", shape.to_string(), "add the batch and channel axes");
  return std::span(shape.dims()).subspan(2);
}

void check_kernel_shape(const Attributes& attributes, std::span<const std::int64_t> kernel) {
  const std::vector<std::int64_t> given = attributes.get_ints("kernel_shape");
  if (!given.empty() && !std::ranges::equal(given, kernel))
    throw_input_error(
        "attribute kernel_shape as the weights have it: " + Shape({kernel.begin(), kernel.end()}).to_string(),
        Shape(given).to_string(), "correct the model");
}

std::vector<std::int64_t> explicit_pads(const Attributes& attributes, std::span<const std::int64_t> input,
                                        std::span<const std::int64_t> kernel) {
  check_spatial(input, kernel);
  check_kernel_shape(attributes, kernel);
  check_ceil_mode(attributes);
  const std::size_t axes = input.size();
  std::vector<std::int64_t> pads = window_ints(attributes, "pads", 2 * axes, 0, 0);
  const std::string auto_pad = attributes.get_string("auto_pad", "NOTSET");
  const bool upper = auto_pad == "SAME_UPPER";
  if (attributes.has("pads") || (!upper && auto_pad != "SAME_LOWER")) return pads;

  const auto strides = window_ints(attributes, "strides", axes, 1, 1);
  const auto dilations = window_ints(attributes, "dilations", axes, 1, 1);
  for (std::size_t i = 0; i < axes; ++i) {
    const std::int64_t reach = (kernel[i] - 1) * dilations[i] + 1;
    const std::int64_t outputs = (input[i] + strides[i] - 1) / strides[i];
    const std::int64_t total = std::max<std::int64_t>(0, (outputs - 1) * strides[i] + reach - input[i]);
    pads[i] = upper ? total / 2 : total - total / 2;
    pads[i + axes] = total - pads[i];
  }
  return pads;
}

Window make_window(const Attributes& attributes, std::span<const std::int64_t> input,
                   std::span<const std::int64_t> kernel) {
  const std::vector<std::int64_t> pads = explicit_pads(attributes, input, kernel);
  const std::size_t axes = input.size();
  const auto strides = window_ints(attributes, "strides", axes, 1, 1);
  const auto dilations = window_ints(attributes, "dilations", axes, 1, 1);
  const bool ceil_mode = attributes.get_int("ceil_mode", 0) == 1;

  Window w;
  for (std::size_t i = 0; i < axes; ++i) {
    const std::size_t axis = kMaxSpatial - axes + i;
    w.input[axis] = input[i];
    w.kernel[axis] = kernel[i];
    w.stride[axis] = strides[i];
    w.dilation[axis] = dilations[i];
    w.pad_begin[axis] = pads[i];
    w.pad_end[axis] = pads[i + axes];
    const std::int64_t free = input[i] + pads[i] + pads[i + axes] - ((kernel[i] - 1) * dilations[i] + 1);
    // With ceil_mode a window may end after the pads, but by less than a stride.
    const std::int64_t starts = free + (ceil_mode ? strides[i] - 1 : 0);
    if (starts < 0 || kernel[i] < 1)
      throw_input_error("a kernel that fits into the padded input",
                        fmt::format("extent {} with pads {} and {}, kernel {} with dilation {}", input[i], pads[i],
                                    pads[i + axes], kernel[i], dilations[i]),
                        "use larger inputs or a smaller kernel");
    w.output[axis] = starts / strides[i] + 1;
    // A window that would start after the input and its begin pad is dropped, as in PyTorch.
    if (ceil_mode && (w.output[axis] - 1) * strides[i] >= input[i] + pads[i]) --w.output[axis];
  }
  return w;
}

}  // namespace halfstep::ops
