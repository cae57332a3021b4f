#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "training/ranks.h"
#include "training/start.h"
#include "training/task_parts.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

/// The inputs of a model that a data set has rows for, and the one that takes its labels; "" where none does.
struct Roles {
  std::vector<std::string> x;
  std::string y;
};

/// A model that computes its loss may take the labels as an input, mostly its last.
Roles roles_of(const Graph& model, const Dataset& data, const std::optional<std::string>& loss) {
  if (model.inputs.empty()) throw_input_error("a model with an input", "none", "export the model again");
  Roles roles;
  for (ValueId in : model.inputs) roles.x.push_back(model[in].name);
  const auto is_input = [&](const std::string& name) {
    return std::find(roles.x.begin(), roles.x.end(), name) != roles.x.end();
  };
  const auto taken = std::count_if(data.x.begin(), data.x.end(), [&](const Dataset::Input& input) {
    return input.name.empty() || !input.optional || is_input(input.name);
  });
  if (loss != kOwnLoss || !data.y || taken >= static_cast<std::ptrdiff_t>(roles.x.size())) return roles;
  const auto is_named = [&](const std::string& name) {
    return std::any_of(data.x.begin(), data.x.end(), [&](const Dataset::Input& input) { return input.name == name; });
  };
  auto labels = std::find(roles.x.rbegin(), roles.x.rend(), data.y_name);
  if (labels == roles.x.rend()) labels = std::find_if_not(roles.x.rbegin(), roles.x.rend(), is_named);
  roles.y = *labels;
  roles.x.erase(std::next(labels).base());
  return roles;
}

void choose_batch(Task& task, const PreparedModel& model, const Dataset& data, std::int64_t wanted) {
  const std::int64_t fixed = fixed_batch(model.graph());
  task.all_rows = std::min(wanted, data.rows());
  task.batch = task.share.size(task.all_rows);
  const std::int64_t ranks = task.share.ranks;
  const std::string obstacle = fixed == Shape::kUnknown ? "" : model.batch_obstacle();
  if (obstacle.empty()) {
    if (task.all_rows < ranks)
      throw_input_error(fmt::format("a batch of at least {} rows, one for each rank", ranks),
                        fmt::format("{}", task.all_rows), "use a larger --batch, or fewer ranks");
    return;
  }
  const char* rest = data.rows() % (fixed * ranks) != 0 ? ", and the last rows that do not fill one are left out" : "";
  task.notices.push_back(fmt::format("the model's batch size is fixed at {} ({}): batches have that size{}{}", fixed,
                                     obstacle, ranks == 1 ? "" : " on each rank", rest));
  task.batch = fixed;
  task.all_rows = fixed * ranks;
  task.drop_last = true;
  require_full_batch(task, data, task.all_rows);
}

// A recurrent layer that takes an input as it is says where its batch is.
void note_recurrent_inputs(Task& task, const Graph& model) {
  for (const Node& node : model.nodes) {
    if (!traits_of(node).is_recurrent()) continue;
    if (node.attributes.get_int("layout", 0) == 0 && node.input(0) != kNoValue && model.is_input(node.inputs[0]))
      task.notices.push_back(
          fmt::format("rows are taken along the first axis of '{0}', which is the time axis of the {1} that reads it: "
                      "--batch-axis {0}=1 if axis 1 is the batch",
                      model[node.inputs[0]].name, node.op));
  }
}

}  // namespace

Task make_task(const PreparedModel& prepared, const Dataset& unordered, const TrainerOptions& options) {
  check(options);
  const Graph& model = prepared.graph();
  Task task;
  if (options.ranks) task.share = {options.ranks->rank(), options.ranks->size()};
  std::vector<std::string> labels;
  for (const OutputLoss& loss : options.losses)
    for (const std::string& name : {loss.labels, loss.sample_weights})
      if (!name.empty()) labels.push_back(name);
  for (const OutputLoss& loss : options.losses)
    if (!loss.sample_weights.empty() && !has_rows(unordered, loss.sample_weights))
      throw_input_error(fmt::format("sample weights '{}' in the data", loss.sample_weights), "no rows of that name",
                        "give them as NAME=FILE, or as an array of that name in an NPZ file");
  const Dataset named = with_labels(unordered, labels);
  if (options.losses.empty()) throw_input_error("a loss", "an empty list of losses", "{{}} chooses one by the labels");
  const Roles roles = roles_of(model, named, options.losses.size() == 1 ? options.losses[0].loss : std::nullopt);
  const Dataset data = in_order_of(roles.x, named);
  task.x_names = roles.x;
  task.y_name = roles.y;
  std::vector<RowType> rows;
  for (const std::string& name : task.x_names) rows.push_back(row_of(model[model.find(name)]));
  task.x = fit_inputs(data, rows, options.input);
  choose_batch(task, prepared, data, options.batch_size);
  note_recurrent_inputs(task, model);
  choose_losses(task, prepared, data, options);

  task.step.mode = options.mode;
  task.step.mode.seed = seed_of(options.seed, task.share.rank);
  task.step.ranks = rank_options(options);
  task.step.optimizer = options.optimizer;
  task.step.optimizer.output_gradient_norms = options.log_grad_norms;
  if (task.loss().row->name == kOwnLoss) {
    LossTerm& term = task.step.loss.terms[0];
    term.loss = kOwnLoss;
    term.labels_input = task.y_name;
  }
  return task;
}

void set_precision(Task& task, const TrainerOptions& options, DType precision) {
  task.precision = task.step.precision = precision;
  LossScaleOptions& scale = task.step.optimizer.loss_scale;
  scale = starting(scale, options.loss_scale, task.precision);
  check(task.step.optimizer);
  check_gradient_dtype(options.gradient_dtype, scale.enabled);
  for (const OptimizerNumber& number : optimizer_numbers())
    if (!scale.enabled && number.name.starts_with("loss-scale") && number.get(options.optimizer) != number.get({}))
      task.notices.push_back(
          fmt::format("--{} has no effect: precision {} trains without a loss scale (--loss-scale "
                      "{} turns it on)",
                      number.name, precision_name(task.precision), LossScaleOptions{}.initial));
}

}  // namespace halfstep
