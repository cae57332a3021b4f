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

// One for each operator of the table: chain.cpp, elementwise.cpp, movement.cpp, normalization.cpp, loss.cpp,
// matmul.cpp, convolution.cpp, pooling.cpp, optimizer.cpp.
Made make_chain(KernelContext& context);
Made make_generated(KernelContext& context);
Made make_unary(KernelContext& context);
Made make_binary(KernelContext& context);
Made make_where(KernelContext& context);
Made make_relu_grad(KernelContext& context);
Made make_cast(KernelContext& context);
Made make_slice(KernelContext& context);
Made make_slice_grad(KernelContext& context);
Made make_split(KernelContext& context);
Made make_concat(KernelContext& context);
Made make_pad(KernelContext& context);
Made make_gather(KernelContext& context);
Made make_gather_grad(KernelContext& context);
Made make_layer_normalization(KernelContext& context);
Made make_layer_normalization_grad(KernelContext& context);
Made make_batch_normalization(KernelContext& context);
Made make_batch_normalization_grad(KernelContext& context);
Made make_expand(KernelContext& context);
Made make_transpose(KernelContext& context);
Made make_reduce_sum(KernelContext& context);
Made make_softmax(KernelContext& context);
Made make_softmax_grad(KernelContext& context);
Made make_cross_entropy(KernelContext& context);
Made make_cross_entropy_grad(KernelContext& context);
Made make_gemm(KernelContext& context);
Made make_matmul(KernelContext& context);
Made make_convolution(KernelContext& context);
Made make_convolution_grad_input(KernelContext& context);
Made make_convolution_grad_weight(KernelContext& context);
Made make_pool_cudnn(KernelContext& context);
Made make_pool_own(KernelContext& context);
Made make_pool_grad(KernelContext& context);
Made make_adam(KernelContext& context);
Made make_sgd(KernelContext& context);
Made make_global_norm(KernelContext& context);
Made make_loss_scale_update(KernelContext& context);

}  // namespace halfstep::cudnn
