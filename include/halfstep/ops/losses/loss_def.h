// The losses: a table with a row for each, with the labels it takes, the rule by which it is the default, and its
// formula as a graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/ops/builder.h>

namespace HALFSTEP_API halfstep {

/// The row for a model that computes its loss itself.
inline constexpr std::string_view kOwnLoss = "output";

/// Kinds of labels.
enum class LossLabels {
  classes,  ///< a class index for each point of the output (each position along all axes except the class axis), or
            ///< `shares`
  shares,   ///< for each point and class a probability from 0 to 1: one-hot or soft labels
  binary,   ///< a number from 0 to 1 for each element of the output
  values,   ///< a number for each element of the output
  none,     ///< none: the model computes its loss
};

/// A numeric parameter of a loss. Losses with the same parameter share it.
struct LossNumber {
  std::string_view name, meaning;  ///< "huber-delta"; the command-line flag is --huber-delta
  double fallback, lowest, highest;
  bool above_lowest = false;  ///< `lowest` itself is excluded
};
using LossNumbers = std::map<std::string, double, std::less<>>;

/// Reduction of the losses of a batch's points or elements to a scalar.
enum class LossReduction : std::uint8_t {
  mean,  ///< weighted mean; 0 if all labels are ignored
  sum,
};

/// The operands of a formula.
struct LossOperands {
  Expr y;                                  ///< the output, f32 or f64
  Expr labels;                             ///< class indices unchanged; other labels in y's type and shape
  bool indices = false;                    ///< the labels are class indices
  std::size_t axis = 1;                    ///< class axis of y, for a loss that has one
  std::optional<std::int64_t> ignored;     ///< labels of this value are ignored
  std::vector<double> numbers = {};        ///< in the row's order
  std::vector<double> class_weights = {};  ///< one per class (binary labels: for 0 and 1); empty: all 1
  Expr sample_weights = {};                ///< one per row, or per point or element; empty: all 1
  LossReduction reduction = LossReduction::mean;
};

/// Facts about labels and their output, from which the default loss is chosen.
struct LossFacts {
  std::string_view last_operator;    ///< of the model; may be empty
  bool integer = false;              ///< the labels are integers or bools
  bool indices = false;              ///< they fit the output as class indices of several classes
  bool for_each_element = false;     ///< one label for each element of the output
  bool single = false;               ///< one output element for each label
  bool one_hot = false;              ///< of each point's labels, one is 1 and the others are 0
  bool zeros_and_ones = false;       ///< labels are 0 and 1, and both occur
  bool zero_one_or_ignored = false;  ///< labels are 0, 1 or ignored
  bool from_zero_to_one = false;     ///< no label is below 0 or above 1
};

struct LossDef {
  std::string_view name, meaning;
  std::string_view source;  ///< the reference for its results
  LossLabels labels;
  std::string_view along = {};  ///< the contents of --class-axis: "classes" or "vectors"; empty: it has no such axis
  bool on_scores = false;       ///< takes logits: a final Softmax or LogSoftmax of the model is omitted
  bool ignores = false;         ///< supports --ignore-label for class indices or binary labels
  bool weighs = false;          ///< supports a weight for each class
  double threshold = 0.5;       ///< outputs above it are class 1, for labels 0 and 1
  std::vector<LossNumber> numbers = {};
  /// A scalar, with the reduction of the operands. Null: the model computes its loss.
  Expr (*formula)(const LossOperands&) = nullptr;
  /// The reason, if the row is the default, unless an earlier row is; an empty reason if obvious. Null: never.
  std::optional<std::string_view> (*is_default)(const LossFacts&) = nullptr;
};

/// All rows; the first row whose rule holds is the default.
std::span<const LossDef> losses();
/// Throws Error(input) listing the available losses for an unknown name.
const LossDef& loss_named(std::string_view name);

/// The numeric parameters of all rows, each once.
std::vector<LossNumber> all_loss_numbers();
/// The numbers of a loss in its order, from `given` or the default. Throws Error(input) for a number that is out of
/// range or does not belong to this loss.
std::vector<double> numbers_of(const LossDef& loss, const LossNumbers& given);

}  // namespace halfstep
