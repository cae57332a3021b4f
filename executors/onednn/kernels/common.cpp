#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include "executors/core/same_elements.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/math_mode.h"

namespace halfstep::onednn {

std::vector<DType> compute_types(DType dtype) {
  if (dtype == DType::f32) return {DType::f32};
  if (is_half(dtype)) return {dtype, DType::f32};
  return {};
}

namespace {

/// The first of these that the primitive has; else an empty one.
Desc operand(const dnnl::primitive_desc_base& pd, std::initializer_list<dnnl::query> alternatives) {
  for (const dnnl::query what : alternatives)
    if (Desc desc = pd.query_md(what, 0); desc.get(true) && desc.get_ndims() > 0) return desc;
  return {};
}

/// Whether each channel is convolved by itself: weights [groups, 1, 1, ...].
bool is_depthwise(const dnnl::primitive_desc_base& pd) {
  using dnnl::query;
  const Desc weights = operand(pd, {query::weights_md, query::diff_weights_md});
  const Desc image = operand(pd, {query::src_md, query::diff_src_md});
  if (!weights.get(true) || !image.get(true) || weights.get_ndims() != image.get_ndims() + 1) return false;
  const Dims dims = weights.get_dims();
  return dims[0] > 1 && dims[1] == 1 && dims[2] == 1;
}

}  // namespace

bool is_slow(const dnnl::primitive_desc_base& pd) {
  const std::string_view name = pd.impl_info_str();
  // Products of matrices of single channels take up to hundreds of times as long as a kernel for such convolutions.
  const bool has_products = name.find("brgconv") != name.npos || name.find("gemm") != name.npos;
  if (has_products && is_depthwise(pd)) return true;
  // Without AMX the convolutions in f16 take two to twenty times as long as those in f32, conversions included.
  const bool is_f16_convolution = name.find("brgconv") != name.npos && name.ends_with("avx512_core_fp16");
  return is_f16_convolution || name.starts_with("ref") || name.starts_with("nspc_ref") || name.starts_with("ncsp_ref");
}

namespace {

/// A number for each spatial axis of a convolution.
const std::int64_t* of_axes(const dnnl::primitive_desc_base& pd, dnnl_query_t what) {
  const dnnl_dims_t* numbers = nullptr;
  const bool has_it = dnnl_primitive_desc_query(pd.get(), what, 0, static_cast<void*>(&numbers)) == dnnl_success;
  return has_it && numbers ? *numbers : nullptr;
}

/// Whether there may be windows of padding alone.
bool has_empty_windows(const dnnl::primitive_desc_base& pd) {
  const Desc weights = operand(pd, {dnnl::query::weights_md, dnnl::query::diff_weights_md});
  const std::int64_t *before = of_axes(pd, dnnl_query_padding_l), *after = of_axes(pd, dnnl_query_padding_r),
                     *skipped = of_axes(pd, dnnl_query_dilations);
  if (!weights.get(true) || !before || !after || !skipped) return false;
  const auto axes =
      static_cast<std::size_t>(operand(pd, {dnnl::query::src_md, dnnl::query::diff_src_md}).get_ndims() - 2);
  const Dims dims = weights.get_dims(), kernel(dims.end() - static_cast<std::ptrdiff_t>(axes), dims.end());
  for (std::size_t i = 0; i < axes; ++i)
    if (std::max(before[i], after[i]) > (kernel[i] - 1) * (skipped[i] + 1)) return true;
  return false;
}

}  // namespace

bool mixes_pixels(const dnnl::primitive_desc_base& pd) {
  const std::string_view name = pd.impl_info_str();
  for (const char* safe : {"amx", "dw", "ref"})
    if (name.find(safe) != name.npos) return false;
  if (name.find("gemm") != name.npos && has_empty_windows(pd)) return true;
  const Desc source = pd.query_md(dnnl::query::src_md), weights = pd.query_md(dnnl::query::weights_md);
  // The gradient of the input multiplies that of the output.
  const Desc multiplied = source.is_zero() ? pd.query_md(dnnl::query::diff_dst_md) : source;
  if (weights.is_zero() || multiplied.get_data_type() != DataType::bf16) return false;
  const std::int64_t groups = weights.get_ndims() > multiplied.get_ndims() ? weights.get_dims()[0] : 1;
  const std::int64_t channels = multiplied.get_dims()[1];
  return multiplied.get_padded_dims()[1] == channels && channels / groups % 2 == 1;
}

std::string kernel_name(const dnnl::primitive_desc_base& pd) { return std::string("onednn: ") + pd.impl_info_str(); }

std::string conversion_remark(DType wanted, DType computed) {
  if (wanted == computed) return {};
  return fmt::format("{} stored, {} computed: oneDNN has no fast {} kernel for it on this CPU", name_of(wanted),
                     name_of(computed), name_of(wanted));
}

const ForwardRecord* forward_statistics(KernelContext& context) { return core::forward_statistics(context); }

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attr.set_fpmath_mode(math_mode());
  return attr;
}

}  // namespace halfstep::onednn
