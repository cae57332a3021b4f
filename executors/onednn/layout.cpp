#include "executors/onednn/layout.h"

#include <cstring>
#include <memory>
#include <vector>

#include "executors/onednn/threads.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::onednn {
namespace {

/// Empty when the tag is of another number of axes.
Desc tagged(const Dims& dims, DType dtype, dnnl_format_tag_t tag) {
  if (tag == dnnl_format_tag_undef) return Desc();
  return Desc(dims, data_type(dtype), static_cast<dnnl::memory::format_tag>(tag), true);
}

/// oneDNN's name of a blocked order; dnnl_format_tag_undef when it has none for this type.
dnnl_format_tag_t tag_of(const Layout& layout, DType dtype) {
  for (int i = dnnl_format_tag_any + 1; i < dnnl_format_tag_last; ++i) {
    const Desc candidate = tagged(layout.dims(), dtype, static_cast<dnnl_format_tag_t>(i));
    if (candidate.get(true) && candidate.get_inner_blks() == layout.order().blocks && layout_of(candidate) == layout)
      return static_cast<dnnl_format_tag_t>(i);
  }
  return dnnl_format_tag_undef;
}

}  // namespace

dnnl::engine& engine() {
  static dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

DataType data_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return DataType::f32;
    case DType::f16:
      return DataType::f16;
    case DType::bf16:
      return DataType::bf16;
    default:
      return DataType::undef;
  }
}

Desc row_major(const Dims& dims, DType dtype) { return Desc(dims, data_type(dtype), core::row_major_strides(dims)); }

Desc any_order(const Dims& dims, DType dtype) { return Desc(dims, data_type(dtype), dnnl::memory::format_tag::any); }

Layout layout_of(const Desc& desc) {
  return Layout(
      {desc.get_dims(), desc.get_padded_dims(), desc.get_strides(), desc.get_inner_blks(), desc.get_inner_idxs()},
      std::make_shared<const Desc>(desc));
}

Desc desc_of(const Layout& layout, const Shape& shape, DType dtype) {
  if (layout.is_row_major()) return row_major(shape, dtype);
  // All layouts but row-major are made from descriptors.
  const Desc& origin = *static_cast<const Desc*>(layout.origin());
  if (origin.get_data_type() == data_type(dtype)) return origin;
  if (layout.order().blocks.empty() && !layout.is_padded())
    return Desc(layout.dims(), data_type(dtype), layout.order().strides);
  // Blocked descriptors can only be had by their tag.
  return tagged(layout.dims(), dtype, tag_of(layout, dtype));
}

Desc resized(const Layout& layout, const Dims& dims, DType dtype) {
  if (layout.is_row_major()) return row_major(dims, dtype);
  if (layout.is_permutation()) return permuted_like(layout, Shape(dims), dtype);
  return tagged(dims, dtype, tag_of(layout, dtype));
}

Desc permuted_like(const Layout& layout, const Shape& shape, DType dtype) {
  const Dims dims = dims_of(shape);
  return Desc(dims, data_type(dtype), core::strides_like(layout, dims));
}

void reorder_now(const Shape& shape, DType dtype, const void* from, const Layout& from_layout, void* to,
                 const Layout& to_layout) {
  if (from_layout == to_layout) {
    std::memcpy(to, from, bytes_of(dtype, static_cast<std::size_t>(from_layout.stored(shape.count()))));
    return;
  }
  // Row-major takes the other side's extents; two other layouts with different extents meet in row-major.
  auto copy = [](const Desc& a, const void* source, const Desc& b, void* target) {
    const ThreadScope scope(0);
    dnnl::memory src(a, engine(), const_cast<void*>(source)), dst(b, engine(), target);
    dnnl::stream stream(engine());
    dnnl::reorder(src, dst).execute(stream, src, dst);
    stream.wait();
  };
  const Layout plain;
  if (from_layout.is_row_major()) {
    copy(row_major(to_layout.dims(), dtype), from, desc_of(to_layout, shape, dtype), to);
  } else if (to_layout.is_row_major()) {
    copy(desc_of(from_layout, shape, dtype), from, row_major(from_layout.dims(), dtype), to);
  } else if (from_layout.dims() == to_layout.dims()) {
    copy(desc_of(from_layout, shape, dtype), from, desc_of(to_layout, shape, dtype), to);
  } else {
    std::vector<std::byte> middle(bytes_of(dtype, shape));
    reorder_now(shape, dtype, from, from_layout, middle.data(), plain);
    reorder_now(shape, dtype, middle.data(), plain, to, to_layout);
  }
}

}  // namespace halfstep::onednn
