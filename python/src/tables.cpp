// The tables of losses, optimizers, schedules and metrics, from which the Python classes are created.
#include <string>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "base/enum_names.h"
#include "python/src/bindings.h"
#include "python/src/tensors.h"
#include <halfstep/ops/losses/loss_def.h>
#include <halfstep/passes/step/optimizer_options.h>
#include <halfstep/training/metric_def.h>
#include <halfstep/training/schedule.h>

namespace halfstep::python {
namespace {

/// The name as a Python identifier.
std::string identifier(std::string_view name) {
  std::string result(name);
  for (char& c : result)
    if (c == '-') c = '_';
  return result;
}

constexpr std::string_view kLabels[] = {"classes", "shares", "binary", "values", "none"};
std::string_view name_of(LossLabels labels) { return name_in(kLabels, labels); }

nb::list loss_table() {
  nb::list rows;
  for (const LossDef& loss : losses()) {
    nb::dict row;
    row["name"] = text(loss.name);
    row["meaning"] = text(loss.meaning);
    row["source"] = text(loss.source);
    row["labels"] = text(name_of(loss.labels));
    row["ignores"] = loss.ignores;
    row["takes_class_weights"] = loss.weighs;
    nb::list numbers;
    for (const LossNumber& number : loss.numbers) {
      nb::dict n;
      n["name"] = identifier(number.name);
      n["meaning"] = text(number.meaning);
      n["default"] = number.fallback;
      n["lowest"] = number.lowest;
      n["highest"] = number.highest;
      numbers.append(n);
    }
    row["numbers"] = numbers;
    rows.append(row);
  }
  return rows;
}

/// The meaning of a number for this optimizer: the table of numbers combines those of all optimizers.
std::string_view meaning_for(const OptimizerNumber& number, const OptimizerDef& optimizer) {
  const Hyperparameter* own = number.hyperparameter.empty() ? nullptr : optimizer.find(number.hyperparameter);
  return own ? own->meaning : number.meaning;
}

nb::list optimizer_table() {
  nb::list rows;
  for (const OptimizerDef& optimizer : optimizers()) {
    const OptimizerOptions defaults{.name = std::string(optimizer.name)};
    nb::dict row;
    row["name"] = text(optimizer.name);
    row["op"] = text(optimizer.op);
    row["source"] = text(optimizer.source);
    nb::list numbers;
    for (const OptimizerNumber& number : optimizer_numbers()) {
      if (!number.belongs_to(optimizer.name)) continue;
      nb::dict n;
      n["name"] = identifier(number.name);
      n["meaning"] = text(meaning_for(number, optimizer));
      n["default"] = number.get(defaults);
      n["lowest"] = number.lowest;
      n["highest"] = number.highest;
      n["is_switch"] = number.is_switch;
      n["is_whole"] = number.whole;
      n["of_optimizer"] = !number.hyperparameter.empty();
      numbers.append(n);
    }
    row["numbers"] = numbers;
    rows.append(row);
  }
  return rows;
}

nb::list schedule_table() {
  nb::list rows;
  for (const ScheduleDef& schedule : schedules()) {
    nb::dict row;
    row["name"] = text(schedule.name);
    row["source"] = text(schedule.source);
    row["warms_up"] = schedule.warms_up;
    nb::list keys;
    for (const ScheduleKey& key : schedule.keys) {
      nb::dict k;
      k["name"] = text(key.name);
      k["kind"] = key.kind == ScheduleKey::Kind::count  ? "count"
                  : key.kind == ScheduleKey::Kind::flag ? "flag"
                                                        : "number";
      k["default"] = key.fallback;
      k["lowest"] = key.lowest;
      k["highest"] = key.highest;
      keys.append(k);
    }
    row["keys"] = keys;
    row["list"] = text(schedule.list);
    rows.append(row);
  }
  return rows;
}

nb::list metric_table() {
  nb::list rows;
  for (const MetricDef& metric : all_metrics()) {
    nb::dict row;
    row["name"] = text(metric.name);
    row["meaning"] = text(metric.meaning);
    row["number"] = text(metric.number.name);
    row["smaller_is_better"] = metric.smaller_is_better;
    rows.append(row);
  }
  return rows;
}

}  // namespace

void bind_tables(nb::module_& m) {
  m.def("loss_table", &loss_table, "The losses, as a list of dictionaries.");
  m.def("optimizer_table", &optimizer_table, "The optimizers with their hyperparameters, as a list of dictionaries.");
  m.def("schedule_table", &schedule_table, "The learning-rate schedules, as a list of dictionaries.");
  m.def("metric_table", &metric_table, "The metrics, as a list of dictionaries.");
  nb::class_<Schedule>(m, "Schedule", "A learning rate as a function of the number of updates.")
      .def(
          "__init__",
          [](Schedule* self, const std::string& form, double learning_rate) {
            new (self) Schedule(parse_schedule(form, learning_rate));
          },
          "form"_a, "learning_rate"_a, "Parses NAME[:KEY=VALUE,...].")
      .def("at", &Schedule::at, "updates"_a, "The learning rate after this number of updates.")
      .def("__str__", &Schedule::to_string);
}

}  // namespace halfstep::python
