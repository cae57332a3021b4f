// All passes. Each is a function that creates the Pass from its options.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/capabilities.h>
#include <halfstep/graph/exporter.h>
#include <halfstep/ops/losses/loss_def.h>
#include <halfstep/passes/pass.h>
#include <halfstep/passes/step/loss_options.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace HALFSTEP_API halfstep {

/// `Identity` of an initializer represents a parameter that an exporter merged with an equal one: it becomes a separate
/// constant, named like the Identity's output. Other Identity nodes are removed.
Pass separate_merged_parameters();

/// f16 and bf16 become f32 everywhere: constants, inputs, outputs, type attributes; casts between them are removed.
/// Parameters are therefore f32 master weights for any type in the file, and only `mixed_precision` decides what is
/// computed in half.
Pass widen_half();

/// Overrides the choice of parameters among constants (see parameter_choice.h). Patterns are shell globs over source
/// names ("layer1.*").
struct ParameterSelection {
  std::vector<std::string> freeze = {};  ///< these are not trained
  /// If not empty, only these are trained. A glob selects among parameters; a constant with its full name given is
  /// trained even if it is not recognized as a parameter.
  std::vector<std::string> trainable = {};
  /// The exporter of the model; set by a Trainer.
  Exporter exporter = Exporter::unknown;
};
/// Turns parameters into states. If a parameter is only the first part of a tensor, that part becomes the state, under
/// the tensor's name. Throws Error if a pattern matches nothing, or nothing is left to train.
Pass select_parameters(ParameterSelection selection = {});

/// A constant that repeats one row, because the exporter expanded it over a fixed batch (a class token, a mask),
/// becomes that row under the same name; a node expands it where it is concatenated.
Pass undo_batch_expansion();

/// Sets the shapes of the graph inputs and infers all others. For an input that is not named, `batch` replaces the
/// first extent if that is unknown.
///
/// A first extent that the model fixes may be changed: constant shapes in the model (Reshape, Expand, Tile,
/// ConstantOfShape, random numbers) then follow the batch. Throws Error if a shape contradicts the model's own (naming
/// both and, if the batch cannot change, the node that fixes it) or an extent stays unknown.
struct InputShapes {
  std::map<std::string, Shape> by_name;
  std::int64_t batch = Shape::kUnknown;
};
Pass bind_shapes(InputShapes shapes);

/// The batch size that a model was exported for: the first extent of its inputs, if known; otherwise kUnknown. Throws
/// Error with the extent of each input if they do not agree.
std::int64_t fixed_batch(const Graph& model);

/// Why a model exported for one batch size does not support others, naming the node. Empty if it does, or if the batch
/// is not fixed.
std::string batch_obstacle(const Graph& model);

/// Moves the batch of inputs and outputs where it is not the first axis (recurrent networks take [T, N, F]) there from
/// the given axis, by a Transpose. Throws Error for a name or an axis that the model does not have.
Pass batch_first(std::map<std::string, std::int64_t> axes);

/// Called for each node before its types are inferred, with known input types; may change its inputs and add constants.
using NodeHook = std::function<void(Graph&, Node&)>;

/// Evaluates nodes that are known at compile time (only constant inputs, Shape, Size), and removes nodes without
/// effect: Identity, Cast and CastLike to the same type, Reshape, Expand, Transpose, Slice, Pad to the same shape and
/// order, disabled Dropout. Re-infers every shape on the way. It does the same in the bodies of control flow, where a
/// node whose evaluation fails is left to fail at run time, if it runs.
Pass fold_constants(NodeHook before = {});

/// Canonical forms: MatMul of matrices + Add of a vector becomes Gemm, MaxPool of Relu becomes Relu of MaxPool.
Pass canonicalize();

/// Decompositions of Gelu, written by exporters for opsets without it, become Gelu: x/2 (1 + erf(x / sqrt(2))), and
/// its approximation by tanh, with factors and terms in any order.
Pass compose_gelu();

/// For Softmax of scores and a constant mask: removes a mask of zeros, and the nodes that replace NaN probabilities by
/// 0 if the mask leaves at least one element of every row and no other mask may hide it.
Pass simplify_masks();

/// BatchNormalization uses batch statistics and updates its running ones (which become states); Dropout is active, with
/// a counter-based generator seeded with `seed`. BatchNormalization may have been exported in training or in inference
/// form; Dropout that is disabled in the model stays disabled.
struct TrainingModeOptions {
  bool train_batchnorm = true;  ///< false: it uses its running statistics and does not update them
  bool train_dropout = true;    ///< false: Dropout is off
  std::int64_t seed = 0;
};
Pass to_training_mode(TrainingModeOptions options = {});
/// Running statistics of BatchNormalization become states, as in to_training_mode.
Pass statistics_to_states();
/// The reverse, also in the bodies of control flow: BatchNormalization uses its running statistics, and its outputs
/// for updated statistics are the unchanged ones; Dropout is removed, or drops nothing if its mask is read.
Pass to_inference_mode();

/// Adds the inputs for labels and the loss (an f32 scalar, unless the model computes its own) as output 0. The model's
/// outputs follow, without one that is the loss; the input of a final Softmax that was fused into a loss replaces its
/// output. If there are several terms, they follow as unweighted scalars, and last the predictions that are no output
/// yet. Values of the model named "loss" or "labels" keep their names: added values are identified by StepRole. Throws
/// Error if labels and outputs do not fit, naming both shapes.
Pass attach_loss(LossOptions options);
Pass attach_loss(LossTerm term);

/// Assigns nodes to `half` (f16 or bf16) according to choose_precision.h, and inserts the fewest casts; with f32 does
/// nothing. States stay f32 (master copies), and so do inputs, outputs and the bodies of control flow. See DESIGN.md:
/// precision is assigned before differentiation.
struct PrecisionOptions {
  DType half = DType::f32;
  std::set<std::string> keep_full_ops;  ///< operator types that stay in f32
};
Pass mixed_precision(PrecisionOptions options);

/// Appends the gradients of `loss` with respect to `targets`: parameters, inputs, any values. Returns their ids, in the
/// order of targets; kNoValue if no gradient flows, because the loss does not depend (smoothly) on the target.
/// Backpropagation starts from `loss_gradient`, a value of the loss's type and shape; by default from 1, and the loss
/// must be a scalar then. Throws Error naming every operator between them whose gradient is unknown.
std::vector<ValueId> differentiate(Graph& graph, ValueId loss, std::span<const ValueId> targets,
                                   ValueId loss_gradient = kNoValue);
/// Appends the gradients of the step's loss with respect to every parameter, as State::gradient, starting from
/// StepRole::loss_gradient. Also throws Error if the loss depends on no parameter.
Pass differentiate();

/// Multiplies the initial gradient of backpropagation by a state, StepRole::loss_scale, which attach_optimizer divides
/// out and updates; and, if `by_weight`, by an input, StepRole::loss_weight (f32 scalar).
Pass scale_loss(LossScaleOptions options, bool by_weight = false);

/// Instead of an optimizer: adds the input StepRole::first (bool scalar), and sums the gradients of batches, starting
/// with a first one, in states, StepRole::accumulator. Outputs are the norm of the sums and whether they are finite, as
/// in attach_optimizer.
Pass accumulate_gradients();
/// The rest of a step after gradients are summed: the parameters that have a sum, each with the state of the sum as its
/// gradient. `sums` has the names of these states by parameter name. An optimizer must be attached. `trainable` has
/// parameters as states; `loss_scale` is the name of that state, empty if there is none. `copies` has the types of
/// half copies to keep by parameter name. Throws Error(failure) for a name that is taken.
Graph graph_of_sums(const Graph& trainable, const std::map<std::string, std::string>& sums,
                    const std::string& loss_scale, const std::map<std::string, DType>& copies = {});
/// States stay unchanged: their updates are removed.
Pass hold_states();

/// Names of the states of a training step, also in checkpoints, unless the model has a value of that name: the number
/// of applied updates (without batches whose gradients were only accumulated, and skipped updates), the loss scale and
/// its number of consecutive finite updates, the prefix of accumulators, and the step counter for the random numbers
/// of dropout and random operators.
inline constexpr std::string_view kUpdatesState = "optimizer.step", kLossScaleState = "loss_scale",
                                  kGoodStepsState = "loss_scale.good_steps", kAccumulatorPrefix = "accumulator.",
                                  kDropoutState = "dropout.counter";
/// Adds the input "learning_rate" (f32 scalar) and, when accumulating, the input "update" (bool scalar: this batch
/// completes an update); the optimizer's states and one update node for all parameters; outputs "grad_norm" (f32, of
/// the unscaled gradients before clipping), "grads_finite" (bool) and, with loss scaling, "loss_scale" (f32, the scale
/// used by this step). Each has its StepRole, which identifies it even if the model has a value of that name. If
/// gradients are not finite, the update of all states is skipped: StepRole::updates counts applied updates. Throws
/// Error as `check(options)` does.
Pass attach_optimizer(OptimizerOptions options);
/// Replaces the update node of an optimizer that is not in `updates` (Capabilities::updates) by the elementwise nodes,
/// products and sums of its formula. Skipped updates still leave every state unchanged, bit for bit.
Pass write_out_update(std::set<std::string, std::less<>> updates);

/// The Cast of a parameter to a half type becomes a state of its own, a copy (StateRole::copy), whose next value is the
/// Cast of the parameter's next one, if it has one. A copy that is there already gets such a next value, too.
Pass keep_half_copies();

/// Removes unread nodes and constants.
Pass remove_dead_nodes();
/// Merges nodes that compute the same result from the same inputs.
Pass eliminate_common_subexpressions();

/// Creates the fused operators listed in `fusions` (Capabilities::fusions): an operator with the activation after it,
/// for a normalization also in the backward pass, and with the Cast of its half-precision result to f32.
Pass fuse(std::vector<Fusion> fusions);
/// Merges connected elementwise nodes with results of the same shape into nodes ai.halfstep.ElementwiseChain, within
/// the limits of `chains` (Capabilities::chains): their intermediate results are not written to memory. Nothing is
/// computed twice, and no cycle arises. Takes time linear in the size of the graph.
Pass fuse_chains(Chains chains);

}  // namespace halfstep
