#include "executors/onednn/kernels/window.h"

#include "ops/convolution/window.h"

namespace halfstep::onednn {

DnnlWindow make_dnnl_window(const Attributes& attributes, const Shape& input, const Dims& kernel, const Shape& output) {
  ops::make_window(attributes, ops::spatial(input), kernel);  // refuses a kernel that does not fit
  const std::size_t axes = kernel.size();
  DnnlWindow w;
  w.kernel = kernel;
  w.strides = attributes.get_ints("strides", Dims(axes, 1));
  w.dilation = attributes.get_ints("dilations", Dims(axes, 1));
  const Dims pads = ops::explicit_pads(attributes, ops::spatial(input), kernel);
  w.pad_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(axes));
  w.pad_end.resize(axes);
  for (std::size_t i = 0; i < axes; ++i) {
    const std::int64_t reach = (kernel[i] - 1) * w.dilation[i] + 1;
    w.pad_end[i] = (output[i + 2] - 1) * w.strides[i] + reach - input[i + 2] - w.pad_begin[i];
    --w.dilation[i];
  }
  return w;
}

bool has_plain_pads(const Attributes& attributes, const Shape& input, const DnnlWindow& window) {
  const std::size_t axes = window.kernel.size();
  const Dims pads = ops::explicit_pads(attributes, ops::spatial(input), window.kernel);
  for (std::size_t i = 0; i < axes; ++i)
    if (window.pad_end[i] > pads[axes + i]) return false;
  return true;
}

}  // namespace halfstep::onednn
