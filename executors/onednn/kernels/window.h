// Convolution and pooling windows as oneDNN takes them.
#pragma once

#include "executors/onednn/layout.h"
#include <halfstep/graph/attribute.h>
#include <halfstep/graph/shape.h>

namespace halfstep::onednn {

/// One entry per spatial axis; `dilation` counts the elements left out (ONNX's minus 1).
struct DnnlWindow {
  Dims kernel, strides, dilation, pad_begin, pad_end;
};

/// The window of a node with input [N, C, D1, ...], these kernel extents and output [N, C', O1, ...]. `pad_end` is what
/// the output's extents imply (more than the attribute's with ceil_mode).
DnnlWindow make_dnnl_window(const Attributes& attributes, const Shape& input, const Dims& kernel, const Shape& output);

/// Whether pad_end is that of the attributes: with ceil_mode it may be more.
bool has_plain_pads(const Attributes& attributes, const Shape& input, const DnnlWindow& window);

}  // namespace halfstep::onednn
