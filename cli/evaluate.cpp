// halfstep evaluate: loss and metrics of a model on a data set.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/class_table.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/loss_flags.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/training/evaluator.h>

namespace halfstep::cli {
namespace {

struct EvaluateFlags {
  std::string model, data, split = "test";
  ExecutorFlags executor;
  PrecisionFlag precision{"fp32"};
  DataFlags rows;
  LossFlags loss;
  std::int64_t batch = 256;
  bool json = false;
};

void print_text(const Evaluation& result, const Evaluator& evaluator, const std::string& math,
                const std::vector<std::string>& classes) {
  std::size_t width = 12;
  for (const auto& [name, value] : result.metrics) width = std::max(width, name.size());
  const auto line = [width](std::string_view name, const std::string& value) {
    print_out("{:<{}} {}\n", name, width, value);
  };
  line("rows", with_thousands(result.rows));
  line("loss", fmt::format("{:.6g}", result.loss));
  for (const auto& [name, value] : result.metrics) line(name, fmt::format("{:.6g}", value));
  line("precision", std::string(precision_name(evaluator.precision())) + math);
  for (const auto& [name, table] : result.tables) print_class_table(name, table, classes);
}

nlohmann::ordered_json to_json(const Evaluation& result, const Evaluator& evaluator, const Executor& executor,
                               const std::vector<std::string>& classes) {
  nlohmann::ordered_json json{{"rows", result.rows},
                              {"loss", result.loss},
                              {"metrics", nlohmann::ordered_json::object()},
                              {"loss_function", evaluator.loss_text()},
                              {"executor", executor.name()},
                              {"precision", precision_name(evaluator.precision())}};
  for (const auto& [name, value] : result.metrics) json["metrics"][name] = value;
  for (const auto& [name, table] : result.tables) json["metrics"][name] = cli::to_json(table, classes);
  return json;
}

void evaluate(const EvaluateFlags& flags) {
  TrainerOptions options;
  flags.loss.apply(options);
  options.precision = flags.precision.value();
  options.input = flags.rows.input();
  options.batch_size = flags.batch;
  const std::unique_ptr<Executor> executor = flags.executor.open();  // first, because a plug-in may define operators
  LoadedModel model = load_model(flags.model);
  const Split split = flags.split == "train" ? Split::train : Split::test;
  const Dataset data = flags.loss.with_sample_weights(flags.rows.open(flags.data, split, model.graph));
  Evaluator evaluator(std::move(model), *executor, data, options);
  for (const std::string& notice : evaluator.notices()) print_message(notice);
  const Evaluation result = evaluator.evaluate(data);
  if (flags.json) {
    print_json(to_json(result, evaluator, *executor, data.classes));
  } else {
    print_text(result, evaluator, flags.executor.lower_math(evaluator.precision(), *executor), data.classes);
  }
}

}  // namespace

void add_evaluate(CLI::App& app, int&) {
  CLI::App* command = add_command(app, "evaluate", "Computes loss and metrics of a model on a data set.");
  command->footer("Example:\n  halfstep evaluate trained.onnx --data x_test.npy,y_test.npy");
  auto flags = std::make_shared<EvaluateFlags>();
  add_model(*command, flags->model);
  command->add_option("--data", flags->data, data_help())->required()->type_name("DATA");
  command->add_option("--split", flags->split, "train or test, for a folder or file with both")
      ->capture_default_str()
      ->check(one_of({"train", "test"}));
  command->add_option("--batch", flags->batch, "batch size in rows")->capture_default_str()->check(counting());
  flags->rows.add_to(*command);
  flags->loss.add_to(*command);
  flags->precision.add_to(*command);
  flags->executor.add_to(*command);
  flags->executor.add_arithmetic_to(*command);
  command->add_flag("--json", flags->json, "prints the result as JSON");
  command->callback([flags] { evaluate(*flags); });
}

}  // namespace halfstep::cli
