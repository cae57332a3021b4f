// halfstep profile: time per node of a step, compared with the limits of the machine.
#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/parse_number.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/json_table.h"
#include "cli/output_paths.h"
#include "cli/ranks.h"
#include "cli/step_flags.h"
#include "distributed/recorded.h"
#include "distributed/topology.h"
#include <halfstep/base/error.h>
#include <halfstep/data/dataset.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/session/profile.h>
#include <halfstep/session/session.h>
#include <halfstep/training/example_data.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cli {
namespace {

using Json = nlohmann::ordered_json;

/// If no flag sets the precision, it is that of run, or with --training that of train.
struct ProfileFlags : StepFlags {
  std::string model, data, by = "node", trace, config;
  ExecutorFlags executor;
  RankFlags ranks;
  std::vector<std::string> shapes;
  int steps = 10, top = 0, depth = 0;
  bool training = false, json = false;
};

constexpr std::int64_t kMostElements = 1'000'000'000'000'000;

/// NAME=D1,D2,...
std::pair<std::string, Shape> parse_shape(const std::string& text) {
  const auto wrong = [&]() -> std::pair<std::string, Shape> {
    throw_input_error("--shape NAME=D1,D2,...", fmt::format("'{}'", text), "give an input's name and its extents");
  };
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) return wrong();
  std::vector<std::int64_t> dims;
  for (std::size_t begin = equals + 1; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto extent = parse_number<std::int64_t>(std::string_view(text).substr(begin, end - begin));
    if (!extent || *extent < 0 || *extent >= kMostElements) return wrong();
    dims.push_back(*extent);
    begin = end + 1;
  }
  return {text.substr(0, equals), Shape(std::move(dims))};
}

InputShapes shapes_of(const ProfileFlags& flags) {
  InputShapes shapes{.by_name = {}, .batch = flags.batch};
  for (const std::string& text : flags.shapes)
    if (const auto [name, is_new] = shapes.by_name.insert(parse_shape(text)); !is_new)
      throw_input_error("one --shape for each input", fmt::format("two for '{}'", name->first), "omit one");
  return shapes;
}

Precision asked_precision(const ProfileFlags& flags) {
  return flags.precision.value(flags.training ? Precision::automatic : Precision::fp32);
}

/// What was profiled.
struct Profiled {
  Profile profile;
  std::string precision;  // described
  std::int64_t batch;
};

Profiled profile_inference(const LoadedModel& model, const ProfileFlags& flags, Executor& executor) {
  const Precision asked = asked_precision(flags);
  Session session(model.graph, executor, {.precision = asked, .batch_axes = flags.loss.batch_axis.value()});
  InputShapes shapes = shapes_of(flags);
  if (const std::string fixed = take_batch(session.graph(), shapes); !fixed.empty()) print_message(fixed);
  return {session.profile(example_inputs(session.graph(), shapes), {.steps = flags.steps}),
          describe_precision(session.precision(), asked, executor.capabilities()), shapes.batch};
}

/// The reductions of those executions whose entries were timed, the last ones: each started at the end of its entry.
std::vector<std::vector<ExchangeTime>> exchanges_of(const Profile& profile, const RecordedReductions& records) {
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < profile.entries.size(); ++i)
    if (profile.entries[i].plan.op.ends_with("StartAllReduce")) starts.push_back(i);
  const std::size_t wanted = starts.size() * profile.executions.size();
  std::vector<std::vector<ExchangeTime>> result(profile.executions.size());
  if (records.size() < wanted) return result;
  auto record = records.end() - static_cast<std::ptrdiff_t>(wanted);
  for (std::size_t execution = 0; execution < result.size(); ++execution)
    for (const std::size_t i : starts) {
      const EntryTime& entry = profile.executions[execution][i];
      result[execution].push_back({entry.start + entry.seconds, record->seconds(), record->bytes});
      ++record;
    }
  return result;
}

Profiled profile_training(const LoadedModel& model, const ProfileFlags& flags, Executor& executor,
                          const std::shared_ptr<Communicator>& ranks) {
  TrainerOptions options = flags.options();
  options.bucket_bytes = flags.ranks.bucket_bytes();
  options.sync_batchnorm = flags.ranks.sync_batchnorm;
  const auto records = std::make_shared<RecordedReductions>();
  if (ranks) options.ranks = recorded(ranks, records);
  const Dataset data = flags.data.empty()
                           ? example_dataset(model.graph, shapes_of(flags), options)
                           : flags.loss.with_sample_weights(flags.rows.open(flags.data, Split::train, model.graph));
  Trainer trainer(model, executor, data, options);
  for (const std::string& notice : trainer.notices()) print_message(notice);
  Profile profile = trainer.profile({.steps = flags.steps});
  if (ranks) profile.exchanges = exchanges_of(profile, *records);
  return {std::move(profile),
          describe_precision(trainer.precision(), asked_precision(flags), executor.capabilities(),
                             trainer.precision_reason()),
          trainer.batch_size()};
}

std::string with_unit(double value, const char* unit) { return fmt::format("{:.4g} {}", value, unit); }

/// A summary of the JSON: a row per node, operator or scope.
void print_rows(const Profile& profile, const ProfileFlags& flags) {
  constexpr std::pair<const char*, ProfileBy> kinds[] = {
      {"node", ProfileBy::node}, {"operator", ProfileBy::operators}, {"scope", ProfileBy::scope}};
  const auto by = std::ranges::find(kinds, flags.by, [](const auto& kind) { return std::string(kind.first); })->second;
  std::vector<ProfileRow> rows = rows_of(profile, by, static_cast<std::size_t>(flags.depth));
  // What another row's kernel computes, and what is done once.
  const std::size_t untimed = std::erase_if(rows, [](const ProfileRow& row) { return !(row.mean > 0); });
  const std::size_t all = rows.size();
  if (flags.top > 0 && rows.size() > static_cast<std::size_t>(flags.top))
    rows.resize(static_cast<std::size_t>(flags.top));
  Json table = Json::array();
  for (const ProfileRow& row : rows) {
    const auto rate = [&](double amount) {
      return row.best > 0 ? fmt::format("{:.1f}", amount / row.best / 1e9) : "-";
    };
    table.push_back({{"best us", fmt::format("{:.1f}", row.best * 1e6)},
                     {"mean us", fmt::format("{:.1f}", row.mean * 1e6)},
                     {"share", fmt::format("{:.1f} %", 100 * row.share)},
                     {"MFLOP", fmt::format("{:.4g}", row.cost.flops / 1e6)},
                     {"MB", fmt::format("{:.4g}", row.cost.bytes / 1e6)},
                     {"GFLOP/s", rate(row.cost.flops)},
                     {"GB/s", rate(row.cost.bytes)},
                     {"x least", row.least > 0 ? fmt::format("{:.1f}", row.best / row.least) : "-"},
                     {"entries", std::to_string(row.entries)},
                     {flags.by, row.name.empty() ? "(none)" : row.name},
                     {"op", row.op},
                     {"kernel", row.kernel}});
  }
  std::vector<std::string> columns{"best us", "mean us", "share", "MFLOP", "MB", "GFLOP/s", "GB/s", "x least"};
  if (by != ProfileBy::node) columns.emplace_back("entries");
  columns.push_back(flags.by);
  if (by == ProfileBy::node) columns.insert(columns.end(), {"op", "kernel"});
  print_table(table, columns);
  if (rows.size() < all) print_out("  {} more: --top\n", all - rows.size());
  if (untimed > 0) print_out("  {} that took no time: --json\n", untimed);
}

void print_text(const Profile& profile, const Json& json, const ProfileFlags& flags) {
  std::vector<std::string> peaks;
  for (const auto& [dtype, flops] : profile.peaks.flops)
    peaks.push_back(fmt::format("{} {}", name_of(dtype), with_unit(flops / 1e9, "GFLOP/s")));
  print_out("{}, executor {}, precision {}\n", json["of"].get<std::string>(), profile.executor,
            json["precision"].get<std::string>());
  print_out("  step   {} at best, {} on average of {}\n", with_unit(profile.best * 1e3, "ms"),
            with_unit(profile.mean * 1e3, "ms"), flags.steps);
  print_out("  least  about {} by these peaks: the step takes {:.2f} times that\n",
            with_unit(profile.least * 1e3, "ms"), profile.least > 0 ? profile.best / profile.least : 0.0);
  print_out("  peaks  products of {}; memory {}\n", fmt::format("{}", fmt::join(peaks, ", ")),
            with_unit(profile.peaks.bytes / 1e9, "GB/s"));
  if (profile.peaks.spread > MachinePeaks::kBusy)
    print_message(
        fmt::format("the machine was busy while its peaks were measured (half of the repetitions took {:.0f} % longer "
                    "than the best, or more): measure again on an idle machine",
                    100 * profile.peaks.spread));
  print_rows(profile, flags);
}

/// `ranks`: null for a process by itself. Rank 0 alone writes.
int profile_on(const std::shared_ptr<Communicator>& ranks, ProfileFlags flags) {
  if (ranks && ranks->rank() > 0) flags.trace.clear();
  flags.executor.threads = share_cores(ranks.get(), flags.executor.threads);
  const std::unique_ptr<Executor> executor = flags.executor.open();  // first: a plug-in may bring operators
  const LoadedModel model = load_model(flags.model);
  if (!flags.trace.empty()) {
    check_writable(flags.trace);
    std::vector<std::filesystem::path> read = model.data_files;
    for (const std::string& file : {flags.model, flags.config})
      if (!file.empty()) read.emplace_back(file);
    if (!flags.data.empty())
      for (std::filesystem::path& path : files_of(parse_data_spec(flags.data))) read.push_back(std::move(path));
    check_distinct({{"--trace", flags.trace}}, read);
  }
  const auto [profile, precision, batch] =
      flags.training ? profile_training(model, flags, *executor, ranks) : profile_inference(model, flags, *executor);
  Json json{{"of", flags.training ? "training step" : "inference"}};
  json["precision"] = precision;
  json["batch"] = batch;
  json.update(Json::parse(profile_json(profile)));
  if (!flags.trace.empty()) write_atomically(flags.trace, trace_json(profile));
  if (flags.json)
    print_json(json);
  else
    print_text(profile, json, flags);
  return 0;
}

int run_profile(const ProfileFlags& flags) {
  const std::shared_ptr<Communicator> ranks =
      flags.training ? flags.ranks.open(flags.json, flags.executor.device) : nullptr;
  if (!ranks) return profile_on(nullptr, flags);
  return on_rank(*ranks, flags.json, [&] { return profile_on(ranks, flags); });
}

}  // namespace

void add_profile(CLI::App& app, int& exit_code) {
  CLI::App* command =
      add_command(app, "profile", "Profiles a step per node and compares it with the machine's limits.");
  command->footer(R"(For every node, operator or scope of the model: time, share, FLOPs, bytes, and
how many times the least time that the machine's peaks allow (the roofline).
Without --data the data is synthetic. Under mpirun a training step is that of
all ranks, and a trace shows its all-reduces beside what rank 0 computes.

Example:
  halfstep profile model.onnx --training --batch 64 --by scope --trace s.json)");
  auto flags = std::make_shared<ProfileFlags>();
  add_model(*command, flags->model);
  command->add_flag("--training", flags->training, "a training step instead of inference");
  command->add_option("--data", flags->data, "data of the training step; " + data_help())
      ->type_name("DATA")
      ->needs(command->get_option("--training"));
  command
      ->add_option("--shape", flags->shapes,
                   "shape of an input, batch included; once for each input with unknown extents")
      ->type_name("NAME=D1,D2,...")
      ->allow_extra_args(false);
  command->add_option("--steps", flags->steps, "number of timed steps, each twice: as a whole, and node by node")
      ->capture_default_str()
      ->check(whole_number(1, 1 << 20));
  command->add_option("--by", flags->by, "grouping of times")
      ->capture_default_str()
      ->check(one_of({"node", "operator", "scope"}));
  command->add_option("--depth", flags->depth, "number of leading parts of scopes; 0: all")
      ->capture_default_str()
      ->check(whole_number(0, 1 << 10));
  command->add_option("--top", flags->top, "number of rows to print, longest first; 0: all")
      ->capture_default_str()
      ->check(whole_number(0, 1 << 20));
  command->add_option("--trace", flags->trace, "writes the timed steps for Perfetto and chrome://tracing")
      ->type_name("FILE.json")
      ->check(not_empty());
  flags->precision.name = "";
  flags->add_to(*command, command->get_option("--training"));
  command->get_option("--precision")->default_str("fp32; with --training auto");
  flags->executor.add_to(*command);
  flags->executor.add_arithmetic_to(*command);
  command->add_flag("--json", flags->json, "prints everything as JSON");
  flags->ranks.add_to(*command, command->get_option("--training"));
  command->callback([flags, command, &exit_code] {
    flags->config = config_file_of(*command);
    exit_code = run_profile(*flags);
  });
}

}  // namespace halfstep::cli
