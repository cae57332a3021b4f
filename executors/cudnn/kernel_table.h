// Operator → makers, best first. The first that takes a node wins; a refusal says why.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "executors/cudnn/kernel.h"
#include "executors/kernel_row.h"

namespace halfstep::cudnn {

std::span<const KernelRow<Maker>> kernel_table();

/// Names of the operators of ai.halfstep the table has.
std::vector<std::string_view> own_operators();

/// The kernel of the first maker that takes the node, or all the refusals joined by "; ". A refusal too when an operand
/// has an element type the device does not hold, an extent of zero, or a shape that depends on data.
Made make_kernel(const Site& site);

/// Reshape, Flatten, Squeeze, Unsqueeze, Identity: the output is the first input's memory under another shape.
bool is_view(const Node& node);

// One for each operator of the table: elementwise.cpp, loss.cpp, matmul.cpp, convolution.cpp, pooling.cpp,
// optimizer.cpp.
Made make_unary(const Site& site);
Made make_binary(const Site& site);
Made make_where(const Site& site);
Made make_relu_grad(const Site& site);
Made make_cast(const Site& site);
Made make_expand(const Site& site);
Made make_transpose(const Site& site);
Made make_reduce_sum(const Site& site);
Made make_softmax(const Site& site);
Made make_softmax_grad(const Site& site);
Made make_cross_entropy(const Site& site);
Made make_cross_entropy_grad(const Site& site);
Made make_gemm(const Site& site);
Made make_matmul(const Site& site);
Made make_convolution(const Site& site);
Made make_convolution_grad_input(const Site& site);
Made make_convolution_grad_weight(const Site& site);
Made make_pool_cudnn(const Site& site);
Made make_pool_own(const Site& site);
Made make_pool_grad(const Site& site);
Made make_adam(const Site& site);
Made make_sgd(const Site& site);
Made make_global_norm(const Site& site);
Made make_loss_scale_update(const Site& site);

}  // namespace halfstep::cudnn
