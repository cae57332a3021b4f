// Operator → makers, best first. The first that takes a node wins; a refusal says why.
#pragma once

#include <string_view>
#include <vector>

#include "executors/cudnn/kernel.h"
#include <halfstep/executors/core/kernel_row.h>

namespace halfstep::cudnn {

std::vector<core::KernelRow> kernel_table();

/// What kernels of the table do together.
std::vector<Fusion> fusions();

/// The nodes that generated kernels compute together; none where nothing can be generated.
Chains generated_chains();

// One for each operator of the table, each in the file of its kind.
Made make_chain(KernelContext& context);
Made make_generated(KernelContext& context);
Made make_slice(KernelContext& context);
Made make_slice_grad(KernelContext& context);
Made make_split(KernelContext& context);
Made make_concat(KernelContext& context);
Made make_pad(KernelContext& context);
Made make_space_and_depth(KernelContext& context);
Made make_gather(KernelContext& context);
Made make_gather_grad(KernelContext& context);
Made make_tile(KernelContext& context);
Made make_gather_elements(KernelContext& context);
Made make_gather_nd(KernelContext& context);
Made make_scatter_elements(KernelContext& context);
Made make_scatter_nd(KernelContext& context);
Made make_cum_sum(KernelContext& context);
Made make_resize(KernelContext& context);
Made make_resize_grad(KernelContext& context);
Made make_dropout(KernelContext& context);
Made make_philox_dropout(KernelContext& context);
Made make_philox_random(KernelContext& context);
Made make_group_normalization(KernelContext& context);
Made make_layer_normalization(KernelContext& context);
Made make_layer_normalization_grad(KernelContext& context);
Made make_batch_normalization(KernelContext& context);
Made make_batch_normalization_grad(KernelContext& context);
Made make_expand(KernelContext& context);
Made make_transpose(KernelContext& context);
Made make_transpose_tiled(KernelContext& context);
Made make_reduction(KernelContext& context);
Made make_arg_extremum(KernelContext& context);
Made make_top_k(KernelContext& context);
Made make_rms_normalization(KernelContext& context);
Made make_softmax(KernelContext& context);
Made make_hardmax(KernelContext& context);
Made make_cross_entropy(KernelContext& context);
Made make_cross_entropy_grad(KernelContext& context);
Made make_negative_log_likelihood(KernelContext& context);
Made make_negative_log_likelihood_grad(KernelContext& context);
Made make_gemm(KernelContext& context);
Made make_gemm_activation(KernelContext& context);
Made make_gemm_activation_grad(KernelContext& context);
Made make_gemm_sums(KernelContext& context);
Made make_matmul(KernelContext& context);
Made make_convolution(KernelContext& context);
Made make_convolution_transpose(KernelContext& context);
Made make_convolution_grad_input(KernelContext& context);
Made make_convolution_grad_weight(KernelContext& context);
Made make_pool_cudnn(KernelContext& context);
Made make_pool_own(KernelContext& context);
Made make_pool_grad(KernelContext& context);
Made make_fused_attention(KernelContext& context);
Made make_attention_grad(KernelContext& context);
Made make_recurrent(KernelContext& context);
Made make_recurrent_cudnn(KernelContext& context);
Made make_recurrent_grad(KernelContext& context);
Made make_recurrent_grad_cudnn(KernelContext& context);
Made make_optimizer_step(KernelContext& context);
Made make_global_norm(KernelContext& context);
Made make_loss_scale_update(KernelContext& context);

}  // namespace halfstep::cudnn
