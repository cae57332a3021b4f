// The kernel makers, one file a family; kernel_table.cpp says which operator tries which.
#pragma once

#include "executors/onednn/kernel.h"

namespace halfstep::onednn {

// matmul.cpp: oneDNN's matrix product with bias, then ReLU
Made make_gemm(KernelContext& context);
Made make_matmul(KernelContext& context);
// convolution.cpp, convolution_grad.cpp
Made make_convolution(KernelContext& context);
Made make_convolution_grad_input(KernelContext& context);
Made make_convolution_grad_weight(KernelContext& context);
// convolution_transpose.cpp
Made make_convolution_transpose(KernelContext& context);
// max_pool.cpp, pooling.cpp
Made make_max_pool(KernelContext& context);
Made make_max_pool_grad(KernelContext& context);
Made make_average_pool(KernelContext& context);
Made make_global_average_pool(KernelContext& context);
Made make_average_pool_grad(KernelContext& context);
// batch_normalization.cpp
Made make_batch_normalization(KernelContext& context);
Made make_batch_normalization_grad(KernelContext& context);
// layer_normalization.cpp
Made make_layer_normalization(KernelContext& context);
Made make_layer_normalization_grad(KernelContext& context);
Made make_instance_normalization(KernelContext& context);
// elementwise.cpp: SIMD, in the operands' layout
Made make_unary(KernelContext& context);
Made make_binary(KernelContext& context);
Made make_where(KernelContext& context);
Made make_cast(KernelContext& context);
// data_movement.cpp
Made make_transpose(KernelContext& context);
Made make_concat(KernelContext& context);
Made make_expand(KernelContext& context);
// slicing.cpp
Made make_slice(KernelContext& context);
Made make_slice_grad(KernelContext& context);
Made make_split(KernelContext& context);
Made make_row_major_concat(KernelContext& context);
Made make_pad(KernelContext& context);
// gather.cpp
Made make_gather(KernelContext& context);
Made make_gather_grad(KernelContext& context);
// reduction.cpp
Made make_reduce(KernelContext& context);
Made make_softmax(KernelContext& context);
Made make_softmax_grad(KernelContext& context);
// loss.cpp
Made make_cross_entropy(KernelContext& context);
Made make_cross_entropy_grad(KernelContext& context);
// optimizer.cpp
Made make_global_norm(KernelContext& context);
Made make_loss_scale_update(KernelContext& context);
Made make_adam_step(KernelContext& context);
Made make_sgd_step(KernelContext& context);
// plain_arithmetic.cpp: formulas on integers and bool
Made make_plain_arithmetic(KernelContext& context);
// dropout.cpp
Made make_dropout(KernelContext& context);
Made make_idle_dropout(KernelContext& context);
// resize.cpp
Made make_resize(KernelContext& context);
Made make_resize_grad(KernelContext& context);
// recurrent.cpp
Made make_recurrent(KernelContext& context);
Made make_recurrent_grad(KernelContext& context);

/// The types to try a oneDNN primitive in for a node of type `dtype`: that type, then f32 (with conversions) for the
/// half types; none for types oneDNN does not know.
std::vector<DType> compute_types(DType dtype);
/// Whether a primitive is one of oneDNN's slow fallbacks.
bool is_slow(const dnnl::primitive_desc_base& pd);
/// Whether a convolution multiplies by 0 what is of no window, which is NaN where that is infinite or NaN: in bf16 by
/// AVX512-BF16, which takes channels in pairs, the next pixel's first one or what lies behind the tensor, where their
/// number is odd and no padding follows them (oneDNN 3.2; not for AMX, or of each channel by itself); and as a product
/// of matrices (gemm) what belongs to windows of padding alone.
bool mixes_pixels(const dnnl::primitive_desc_base& pd);
/// "onednn: brgconv:avx512_core_amx"
std::string kernel_name(const dnnl::primitive_desc_base& pd);
/// "f16 computed in f32: oneDNN has no f16 kernel for it on this CPU"; empty when the types are the same.
std::string conversion_remark(DType wanted, DType computed);

/// The first primitive descriptor that is no slow fallback, of all implementations for the compute types in order, and
/// failing that the first at all; never one that mixes pixels. `make(dtype)` returns a descriptor that may be empty.
template <class Pd>
struct Chosen {
  Pd pd;
  DType dtype = DType::undefined;
  explicit operator bool() const { return dtype != DType::undefined; }
};
template <class Make>
auto choose_primitive(DType dtype, const Make& make) {
  using Pd = decltype(make(dtype));
  Chosen<Pd> slow;
  for (DType type : compute_types(dtype)) {
    Pd pd = make(type);
    int at = 0;
    for (bool is_there = pd.get(true) != nullptr; is_there; is_there = pd.next_impl(), ++at) {
      if (mixes_pixels(pd)) continue;
      if (!is_slow(pd)) return Chosen<Pd>{pd, type};
      if (slow) continue;
      slow = {make(type), type};  // a copy would follow pd to its next implementation
      for (int i = 0; i < at; ++i) slow.pd.next_impl();
    }
  }
  return slow;
}

/// The record of the forward node when its kernel left the statistics of this gradient node's X, input 1; or nullptr.
const ForwardRecord* forward_statistics(KernelContext& context);

/// Attributes with the scratchpad given by the user.
dnnl::primitive_attr user_scratchpad();

}  // namespace halfstep::onednn
