// All passes. Each is a function that returns the Pass, made from its options.
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

/// `Identity` of an initializer stands for a parameter that an exporter merged with an equal one: it becomes a constant
/// of its own, named as the Identity's output. Other Identity nodes disappear.
Pass separate_merged_parameters();

/// f16 and bf16 become f32 everywhere: constants, inputs, outputs, what operators are told to give; casts between them
/// disappear. So parameters are f32 masters whatever type the file stores, and `mixed_precision` alone decides what is
/// computed in half.
Pass widen_half();

/// Overrules which constants become parameters (see parameter_choice.h). Patterns are shell globs over source names
/// ("layer1.*").
struct ParameterSelection {
  std::vector<std::string> freeze = {};  ///< these are not trained
  /// When not empty, only these are trained. A glob chooses among parameters; a constant named in full is trained even
  /// if it is not taken for a parameter.
  std::vector<std::string> trainable = {};
  /// Who wrote the model; a Trainer fills it in.
  Exporter exporter = Exporter::unknown;
};
/// Turns parameters into states; of one that only leads its tensor that part, under the tensor's name. Throws Error
/// when a pattern matches nothing, or nothing is left to train.
Pass select_parameters(ParameterSelection selection = {});

/// A constant that holds one row over and over, because the exporter expanded it over a fixed batch (a class token, a
/// mask), becomes that row under the same name; a node expands it where it is concatenated.
Pass undo_batch_expansion();

/// Gives the graph inputs these shapes, and everything else the shapes that follow. An input that is not named gets
/// `batch` for its first extent when that is unknown.
///
/// A first extent that the model fixes may be given another value: shapes written down in the model (Reshape, Expand,
/// Tile, ConstantOfShape, random numbers) then follow the batch. Throws Error when a shape contradicts the model's own
/// (naming both and, where the batch cannot change, the node that it is baked into) or an extent stays unknown.
struct InputShapes {
  std::map<std::string, Shape> by_name;
  std::int64_t batch = Shape::kUnknown;
};
Pass bind_shapes(InputShapes shapes);

/// The batch size that a model was exported for: the first extent of its inputs, where it is known; kUnknown where none
/// is. Throws Error saying what each input says when they do not agree.
std::int64_t fixed_batch(const Graph& model);

/// Whether a model exported for one batch size computes for others: empty when it does, or when the batch is open
/// anyway; else what keeps it from that, naming the node.
std::string batch_obstacle(const Graph& model);

/// Inputs and outputs whose batch is not their first axis (recurrent networks take [T, N, F]): those named here get it
/// there, from the axis given, by a Transpose. Throws Error for a name or an axis that the model does not have.
Pass batch_first(std::map<std::string, std::int64_t> axes);

/// Is shown each node before its types are inferred, its inputs' types known; may change its inputs and add constants.
using NodeHook = std::function<void(Graph&, Node&)>;

/// Computes what is known at compile (nodes all of whose inputs are constants, Shape, Size), and removes nodes that do
/// nothing: Identity, Cast and CastLike to the same type, Reshape, Expand, Transpose, Slice, Pad to the same shape and
/// order, Dropout that is off. Re-infers every shape on the way. The same in the bodies of control flow, but that what
/// fails there is left to fail when it runs, if it does.
Pass fold_constants(NodeHook before = {});

/// One form of the same: MatMul of matrices + Add of a vector becomes Gemm, MaxPool of Relu becomes Relu of MaxPool.
Pass canonicalize();

/// What exporters write for Gelu where their operator set lacks it becomes Gelu: x/2 (1 + erf(x / sqrt(2))), and its
/// approximation by tanh, in whatever order the factors and terms stand.
Pass compose_gelu();

/// Softmax of scores and a mask that is known: a mask of zeros goes, and so does what turns NaN among the probabilities
/// into 0, where the mask leaves something of every row.
Pass simplify_masks();

/// BatchNormalization uses batch statistics and updates its running ones (which become states); Dropout drops, drawing
/// from a counter-based generator seeded with `seed`. Whether BatchNormalization was exported in training or in
/// inference form makes no difference; Dropout that the model has switched off stays off.
struct TrainingModeOptions {
  bool train_batchnorm = true;  ///< false: it normalizes by its running statistics, and keeps them
  bool train_dropout = true;    ///< false: it drops nothing
  std::int64_t seed = 0;
};
Pass to_training_mode(TrainingModeOptions options = {});
/// Running statistics of BatchNormalization become states, as to_training_mode makes them.
Pass statistics_to_states();
/// The reverse, in the bodies of control flow as well: BatchNormalization uses its running statistics, and what it
/// would have made of them is what they are; Dropout disappears, or where its mask is read drops nothing.
Pass to_inference_mode();

/// Adds the inputs for labels and the loss (an f32 scalar, unless the model computes its own) as output 0. The model's
/// outputs follow, without one that is the loss; where a final Softmax was fused into a loss its input stands in for
/// it. Of several terms those follow, each one number before its weight. What the model calls "loss" or "labels" keeps
/// its name: what a pass adds is known by its StepRole. Throws Error when labels and outputs do not fit, naming both
/// shapes.
Pass attach_loss(LossOptions options);
Pass attach_loss(LossTerm term);

/// Paints nodes in `half` (f16 or bf16) as choose_precision.h tells, and inserts the fewest casts; with f32 does
/// nothing. States stay f32 (master copies), and so do inputs, outputs and the bodies of control flow. See design:
/// choose precision before differentiating.
struct PrecisionOptions {
  DType half = DType::f32;
  std::set<std::string> keep_full_ops;  ///< operator types that stay in f32
};
Pass mixed_precision(PrecisionOptions options);

/// Appends the gradients of `loss` with respect to `targets`: parameters, inputs, any values. Returns their ids, in the
/// order of targets; kNoValue where none flows, since the loss does not depend on the target or not smoothly.
/// Backpropagation starts from `loss_gradient`, a value of the loss's type and shape; from 1 where none is given, and
/// then the loss is one number. Throws Error naming every operator between them whose gradient is not known.
std::vector<ValueId> differentiate(Graph& graph, ValueId loss, std::span<const ValueId> targets,
                                   ValueId loss_gradient = kNoValue);
/// The gradients of the step's loss with respect to every parameter, as State::gradient; StepRole::loss_gradient is
/// what they start from. Throws Error also when the loss depends on no parameter.
Pass differentiate();

/// Multiplies what backpropagation starts from: by a state, StepRole::loss_scale, which attach_optimizer divides out
/// again and updates; and, where `by_weight`, by an input, StepRole::loss_weight (f32 scalar).
Pass scale_loss(LossScaleOptions options, bool by_weight = false);

/// Instead of an optimizer: adds the input StepRole::first (bool scalar), and sums the gradients of each batch from a
/// first one on in states, StepRole::accumulator. Outputs are the norm of the sums and whether they are finite, as
/// attach_optimizer's.
Pass accumulate_gradients();
/// What is left of a step once gradients are summed: the parameters that have a sum, each with the state of its name,
/// as its gradient. `sums` are those names by the parameter's. An optimizer is to be attached. `trainable` has
/// parameters as states; `loss_scale` is the name of that state, empty where there is none. Throws Error(failure) for a
/// name that is taken.
Graph graph_of_sums(const Graph& trainable, const std::map<std::string, std::string>& sums,
                    const std::string& loss_scale);
/// States stay as they are: what moved them is removed.
Pass hold_states();

/// What the states of a training step are called, in checkpoints too, where the model has no value of that name: the
/// updates applied so far (batches whose gradients were only accumulated and skipped updates do not count), the loss
/// scale and its good updates in a row, what accumulators begin with, and the counter of steps that dropout and random
/// operators draw with.
inline constexpr std::string_view kUpdatesState = "optimizer.step", kLossScaleState = "loss_scale",
                                  kGoodStepsState = "loss_scale.good_steps", kAccumulatorPrefix = "accumulator.",
                                  kDropoutState = "dropout.counter";
/// Adds the input "learning_rate" (f32 scalar) and, when accumulating, the input "update" (bool scalar: this batch
/// completes an update); the optimizer's states and one update node for all parameters; outputs "grad_norm" (f32, of
/// the unscaled gradients before clipping), "grads_finite" (bool) and, with loss scaling, "loss_scale" (f32, the one
/// this step used). Each has its StepRole, which tells it where the model has a value of that name. Where gradients are
/// not finite the update of every state is skipped as a whole: StepRole::updates counts those that were applied. Throws
/// Error as `check(options)` does.
Pass attach_optimizer(OptimizerOptions options);
/// Replaces the update node of an optimizer that `updates` (Capabilities::updates) does not list by the elementwise
/// nodes, products and sums of its formula. Skipped updates still leave every state as it is, bit for bit.
Pass write_out_update(std::set<std::string, std::less<>> updates);

/// Removes nodes and constants nobody reads.
Pass remove_dead_nodes();
/// Merges nodes that compute the same thing from the same inputs.
Pass eliminate_common_subexpressions();

/// Writes the fused operators that `fusions` (Capabilities::fusions) lists: an operator with the activation behind it,
/// of a normalization the backward pass too, and with the Cast of its half-precision result to f32.
Pass fuse(std::vector<Fusion> fusions);
/// Makes connected nodes of elementwise operators that have results of one shape a node ai.halfstep.ElementwiseChain
/// each, as far as `chains` (Capabilities::chains) can hold them: what lies between them is not written to memory and
/// read again. Nothing is computed twice, and no cycle arises. Takes time linear in the size of the graph.
Pass fuse_chains(Chains chains);

}  // namespace halfstep
