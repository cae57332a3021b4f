// Layouts as oneDNN's descriptors.
#pragma once

#include <dnnl.hpp>

#include <halfstep/base/dtype.h>
#include <halfstep/executors/core/layout.h>
#include <halfstep/graph/shape.h>

namespace halfstep::onednn {

using core::Dims;
using core::dims_of;
using core::Layout;
using Desc = dnnl::memory::desc;
using DataType = dnnl::memory::data_type;

/// The CPU engine, shared by the process.
dnnl::engine& engine();

/// oneDNN's name of a float type (f32, f16, bf16), or `undef`.
DataType data_type(DType dtype);

/// A row-major descriptor.
Desc row_major(const Dims& dims, DType dtype);
inline Desc row_major(const Shape& shape, DType dtype) { return row_major(dims_of(shape), dtype); }
/// A descriptor that leaves the order to the primitive.
Desc any_order(const Dims& dims, DType dtype);

/// The order that a descriptor tells.
Layout layout_of(const Desc& desc);
/// The descriptor of a value of this shape in this layout. Empty when oneDNN has no such descriptor for the type.
Desc desc_of(const Layout& layout, const Shape& shape, DType dtype);
/// A descriptor of other extents, as many, in the same order: axes permuted alike, or blocked alike. Empty when oneDNN
/// has no such descriptor.
Desc resized(const Layout& layout, const Dims& dims, DType dtype);
/// A descriptor of this shape with its axes in memory in the same order as in `layout`, which is a permutation of as
/// many axes, or row-major.
Desc permuted_like(const Layout& layout, const Shape& shape, DType dtype);

/// Copies a value from one layout to another, at once; the types must be floats unless both layouts are row-major.
void reorder_now(const Shape& shape, DType dtype, const void* from, const Layout& from_layout, void* to,
                 const Layout& to_layout);

}  // namespace halfstep::onednn
