#include <span>

#include <fmt/format.h>
#include <fnmatch.h>

#include "conformance/executor_check.h"
#include "conformance/gradient_check.h"
#include "conformance/program_check.h"
#include "conformance/special_check.h"
#include "conformance/statistics_check.h"
#include "conformance/training_check.h"
#include <halfstep/conformance/checks.h>

namespace halfstep {
namespace {

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

class List {
 public:
  explicit List(const CheckSelection& selection) : selection_(selection) {}

  void add_programs() {
    for (const ProgramCase& promise : program_cases())
      add({.op = {}, .case_name = fmt::format("program/{}", promise.name), .kind = CheckKind::program},
          [&promise](Executor& executor) { return check_program(promise, executor); });
  }

  void add_training() {
    for (const TrainedModel* model : trained_models())
      for (const DType dtype : types(kTrainedTypes))
        add({.op = {},
             .case_name = fmt::format("training/{}", name_of(*model)),
             .kind = CheckKind::training,
             .dtype = dtype},
            [=](Executor& executor) { return check_training(*model, dtype, executor); });
  }

  void add_operator(const OpDef& op) {
    for (std::size_t i = 0; i < op.cases.size(); ++i) {
      const std::string name = case_name(op, i);
      add(about(op, name, CheckKind::gradient, DType::f64), [=, &op](Executor&) { return check_gradient(op, i); });
      for (const DType dtype : types(kCheckedTypes))
        add(about(op, name, CheckKind::execution, dtype),
            [=, &op](Executor& executor) { return check_execution(op, i, dtype, executor); });
      for (const Scale& scale : kScales)
        for (const DType dtype : types(kCheckedTypes))
          add(about(op, case_name(op, i, scale), CheckKind::execution, dtype),
              [=, &op, &scale](Executor& executor) { return check_execution(op, i, dtype, scale, executor); });
      for (const DType dtype : types(kCheckedTypes))
        add(about(op, name, CheckKind::special, dtype),
            [=, &op](Executor& executor) { return check_special(op, i, dtype, executor); });
      for (std::size_t k = 0; k < selection_.random; ++k) {
        const Draw draw{.seed = selection_.seed, .number = k};
        const std::string drawn = case_name(op, i, draw);
        add(about(op, drawn, CheckKind::gradient, DType::f64),
            [=, &op](Executor&) { return check_gradient(op, i, draw); });
        add(about(op, drawn, CheckKind::execution),
            [=, &op](Executor& executor) { return check_execution(op, i, draw, executor); });
      }
    }
    if (!draws_at_random(op)) return;
    for (const DType dtype : types(kDrawnTypes))
      add(about(op, statistics_name(op), CheckKind::statistics, dtype),
          [=, &op](Executor& executor) { return check_statistics(op, dtype, executor); });
  }

  std::vector<Check> checks;

 private:
  static CheckReport about(const OpDef& op, std::string name, CheckKind kind, DType dtype = DType::undefined) {
    return {.op = qualified_name(op), .case_name = std::move(name), .kind = kind, .dtype = dtype};
  }

  std::vector<DType> types(std::span<const DType> all) const {
    return selection_.dtype ? std::vector{*selection_.dtype} : std::vector(all.begin(), all.end());
  }

  void add(CheckReport about, std::function<CheckReport(Executor&)> run) {
    if (selection_.kind && *selection_.kind != about.kind) return;
    if (matches(selection_.op, about.op) && matches(selection_.case_name, about.case_name))
      checks.push_back({std::move(about), std::move(run)});
  }

  const CheckSelection& selection_;
};

}  // namespace

std::vector<Check> list_checks(const CheckSelection& selection) {
  List list(selection);
  list.add_programs();
  list.add_training();
  for (const OpDef* op : op_table())
    if (matches(selection.op, qualified_name(*op))) list.add_operator(*op);
  return std::move(list.checks);
}

std::string group_of(const Check& check) {
  return check.about.op.empty() ? std::string(name_of(check.about.kind)) : check.about.op;
}

std::vector<std::string> check_groups() {
  std::vector<std::string> groups;
  for (const Check& check : list_checks())
    if (groups.empty() || groups.back() != group_of(check)) groups.push_back(group_of(check));
  return groups;
}

std::vector<Check> checks_of(const std::string& group) {
  std::vector<Check> checks = list_checks();
  std::erase_if(checks, [&](const Check& check) { return group_of(check) != group; });
  return checks;
}

}  // namespace halfstep
