// The losses: a table with a row for each, which says what a loss takes, when it is the default, and how it is written
// as a graph.
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

/// The row of a model that computes its loss itself.
inline constexpr std::string_view kOwnLoss = "output";

/// What a loss takes as labels.
enum class LossLabels {
  classes,  ///< a class index for each point of the output (each place along all its axes but the classes'), or
            ///< `shares`
  shares,   ///< for each point a share of every class, from 0 to 1: one-hot or soft labels
  binary,   ///< from 0 to 1 for each element of the output
  values,   ///< a number for each element of the output
  none,     ///< none: the model computes its loss
};

/// A number that a loss has. Losses that mean the same by it share it.
struct LossNumber {
  std::string_view name, meaning;  ///< "huber-delta"; the command line's flag is that with two dashes
  double fallback, lowest, highest;
  bool above_lowest = false;  ///< `lowest` itself is too little
};
using LossNumbers = std::map<std::string, double, std::less<>>;

/// How the losses of the points or elements of a batch become one number.
enum class LossReduction : std::uint8_t {
  mean,  ///< weighted by what weights there are; over no label that counts 0
  sum,
};

/// What a formula is written with.
struct LossOperands {
  Expr y;                                  ///< the output, f32 or f64
  Expr labels;                             ///< class indices as they are; all else of y's type and shape
  bool indices = false;                    ///< the labels are class indices
  std::size_t axis = 1;                    ///< of y, for a loss that has one
  std::optional<std::int64_t> ignored;     ///< labels of this value do not count
  std::vector<double> numbers = {};        ///< in the row's order
  std::vector<double> class_weights = {};  ///< one for each class, of binary labels for 0 and 1; empty: all 1
  Expr sample_weights = {};                ///< for each row, or each point or element; empty: all 1
  LossReduction reduction = LossReduction::mean;
};

/// What is known of labels, and of the output they belong to, where a loss is to be chosen.
struct LossFacts {
  std::string_view last_operator;    ///< of the model; may be empty
  bool integer = false;              ///< the labels are integers or bools
  bool indices = false;              ///< they fit as class indices of several classes
  bool for_each_element = false;     ///< there is a label for each element of the output
  bool single = false;               ///< the output is one number for each label
  bool one_hot = false;              ///< of each point's labels one is 1 and the others are 0
  bool zeros_and_ones = false;       ///< labels are 0 and 1, and both occur
  bool zero_one_or_ignored = false;  ///< labels are 0, 1 or ignored
  bool from_zero_to_one = false;     ///< no label is below 0 or above 1
};

struct LossDef {
  std::string_view name, meaning;
  std::string_view source;  ///< whose numbers it gives
  LossLabels labels;
  std::string_view along = {};  ///< what lies along --class-axis: "classes" or "vectors"; empty: it has no such axis
  bool on_scores = false;       ///< a Softmax or LogSoftmax that ends the model is left out, and its input taken
  bool ignores = false;         ///< class indices, or binary labels, of --ignore-label do not count
  bool weighs = false;          ///< it takes a weight for each class
  double threshold = 0.5;       ///< outputs above are class 1, where labels are 0 and 1
  std::vector<LossNumber> numbers = {};
  /// One number, reduced as the operands say. Null: the model computes its loss.
  Expr (*formula)(const LossOperands&) = nullptr;
  /// Whether it is the default, of rows before which none is, and why: empty where that is plain. Null: never.
  std::optional<std::string_view> (*is_default)(const LossFacts&) = nullptr;
};

/// All rows; the first whose rule holds is the default.
std::span<const LossDef> losses();
/// Throws Error(input) listing the losses there are.
const LossDef& loss_named(std::string_view name);

/// The numbers of all rows, each once.
std::vector<LossNumber> all_loss_numbers();
/// Those of a loss in its order, `given` or the default. Throws Error(input) for one that is out of its range or not
/// this loss's.
std::vector<double> numbers_of(const LossDef& loss, const LossNumbers& given);

}  // namespace halfstep
