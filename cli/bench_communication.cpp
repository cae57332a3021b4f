// halfstep bench-communication: what the network between ranks takes for a model's gradients, and how a training step
// would scale.
#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/json_table.h"
#include "cli/ranks.h"
#include "cli/step_flags.h"
#include "distributed/recorded.h"
#include "distributed/scaling.h"
#include "distributed/topology.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/session/profile.h>
#include <halfstep/training/example_data.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BenchFlags : StepFlags {
  std::string model, data;
  ExecutorFlags executor;
  RankFlags ranks;
  int steps = 10;
  std::optional<double> latency, bandwidth;
  bool json = false;
};

constexpr int kMostRanks = 1024;
constexpr std::size_t kSweep[] = {8, 1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 22, 1 << 25};

/// All-reduces of these sizes, started together. The median of several times; every rank measures about the same, since
/// none is done before the others have come.
double seconds_of_all_reduces(Communicator& ranks, std::span<const std::size_t> sizes) {
  std::size_t all = 0;
  std::vector<std::vector<float>> elements;
  std::vector<std::unique_ptr<AllReduce>> reductions;
  for (const std::size_t bytes : sizes) {
    all += bytes;
    auto& own = elements.emplace_back(std::max<std::size_t>(1, bytes / sizeof(float)));
    reductions.push_back(ranks.make_all_reduce(own.data(), own.size(), DType::f32, Reduction::sum));
  }
  const int repeats = all > (1 << 22) ? 7 : 21;
  std::vector<double> seconds;
  for (int i = -2; i < repeats; ++i) {  // the first two warm it up
    ranks.barrier();
    const auto start = std::chrono::steady_clock::now();
    for (const auto& reduction : reductions) reduction->start();
    for (const auto& reduction : reductions) reduction->wait();
    if (i >= 0) seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::nth_element(seconds, seconds.begin() + repeats / 2);
  return seconds[static_cast<std::size_t>(repeats) / 2];
}

AllReduceTime time_all_reduce(Communicator& ranks, std::size_t bytes) {
  const std::size_t whole = std::max(sizeof(float), bytes / sizeof(float) * sizeof(float));
  return {whole, seconds_of_all_reduces(ranks, {&whole, 1})};
}

Json to_json(const AllReduceTime& time, int ranks) {
  const double volume = 2.0 * (ranks - 1) / ranks * static_cast<double>(time.bytes);
  return {{"bytes", time.bytes}, {"us", time.seconds * 1e6}, {"gbytes_per_s", volume / time.seconds / 1e9}};
}

/// Forward, backward and update of a step by itself: what is no gradient before the first one is forward, and behind
/// the last one the update. They are scaled to the time of a whole step, in which entries are not timed.
StepShape shape_of(const Profile& alone, std::vector<std::size_t> buckets) {
  StepShape shape{.buckets = std::move(buckets)};
  const auto is_backward = [](const ProfileEntry& entry) { return entry.backward; };
  const auto first = std::ranges::find_if(alone.entries, is_backward);
  const auto last = std::find_if(alone.entries.rbegin(), alone.entries.rend(), is_backward).base();
  const auto sum = [](auto begin, auto end) {
    return std::accumulate(begin, end, 0.0, [](double s, const ProfileEntry& entry) { return s + entry.best; });
  };
  shape.forward = sum(alone.entries.begin(), std::min(first, last));
  shape.backward = sum(std::min(first, last), last);
  shape.update = sum(last, alone.entries.end());
  const double all = shape.forward + shape.backward + shape.update;
  if (all <= 0) return {.forward = alone.best, .buckets = std::move(shape.buckets)};
  for (double* part : {&shape.forward, &shape.backward, &shape.update}) *part *= alone.best / all;
  return shape;
}

struct ProfiledStep {
  Profile profile;
  std::vector<std::size_t> buckets;
  std::int64_t batch;  // of all ranks
  std::vector<std::string> notices;
};

ProfiledStep profile_step(const LoadedModel& model, const BenchFlags& flags, TrainerOptions options, std::int64_t rows,
                          Executor& executor) {
  options.batch_size = rows;
  const Dataset data = flags.data.empty()
                           ? example_dataset(model.graph, {.by_name = {}, .batch = rows}, options)
                           : flags.loss.with_sample_weights(flags.rows.open(flags.data, Split::train, model.graph));
  Trainer trainer(model, executor, data, options);
  return {trainer.profile({.steps = flags.steps}), trainer.bucket_bytes(), trainer.batch_size(), trainer.notices()};
}

Json measure(const std::shared_ptr<Communicator>& ranks, BenchFlags flags) {
  const int size = ranks->size();
  flags.executor.threads = share_cores(ranks.get(), flags.executor.threads);
  const std::unique_ptr<Executor> executor = flags.executor.open();
  const LoadedModel model = load_model(flags.model);
  TrainerOptions options = flags.options();
  options.bucket_bytes = flags.ranks.bucket_bytes();
  options.sync_batchnorm = flags.ranks.sync_batchnorm;

  // Each by itself, at the same time: as they share cores and memory in a step.
  ranks->barrier();
  const Profile alone =
      profile_step(model, flags, options, std::max<std::int64_t>(1, flags.batch / size), *executor).profile;
  ranks->barrier();
  options.ranks = ranks;
  const auto [together, buckets, batch, notices] = profile_step(model, flags, options, flags.batch, *executor);
  for (const std::string& notice : notices) print_message(notice);

  Json json{{"ranks", size}, {"batch", batch}, {"threads", flags.executor.threads}};
  std::vector<AllReduceTime> times;
  for (const std::size_t bytes : kSweep) {
    times.push_back(time_all_reduce(*ranks, bytes));
    json["sweep"].push_back(to_json(times.back(), size));
  }
  json["buckets"] = Json::array();
  for (const std::size_t bytes : buckets) {
    times.push_back(time_all_reduce(*ranks, bytes));
    json["buckets"].push_back(to_json(times.back(), size));
  }
  // Together, as in a step: apart from each other, a network that lends unused time is faster.
  const double communication = seconds_of_all_reduces(*ranks, buckets);
  RingLink link = fitted_link(times, size);
  if (flags.latency) link.latency = *flags.latency / 1e6;
  if (flags.bandwidth) link.bandwidth = *flags.bandwidth * 1e9;
  json["link"] = {{"latency_us", link.latency * 1e6}, {"gbytes_per_s", link.bandwidth / 1e9}};

  const StepShape shape = shape_of(alone, buckets);
  json["compute_ms"] = {{"forward", shape.forward * 1e3},
                        {"backward", shape.backward * 1e3},
                        {"update", shape.update * 1e3},
                        {"step", alone.best * 1e3}};
  json["communication_ms"] = communication * 1e3;
  json["step_ms"] = {{"best", together.best * 1e3}, {"mean", together.mean * 1e3}};
  json["step_over_larger"] = together.best / std::max(alone.best, communication);
  for (int n = 1; n <= kMostRanks; n *= 2) {
    const ScaledStep step = scaled_step(shape, link, n);
    Json one{{"ranks", n},
             {"step_ms", step.step * 1e3},
             {"communication_ms", step.communication * 1e3},
             {"efficiency", step.compute / step.step}};
    if (n == 1) one["measured_ms"] = alone.best * 1e3;
    if (n == size) one["measured_ms"] = together.best * 1e3;
    json["scaling"].push_back(std::move(one));
  }
  return json;
}

void print_times(const Json& rows, const char* what) {
  Json table = Json::array();
  for (const Json& row : rows)
    table.push_back({{"bytes", with_thousands(row["bytes"].get<std::int64_t>())},
                     {"us", fmt::format("{:.1f}", row["us"].get<double>())},
                     {"GB/s", fmt::format("{:.3f}", row["gbytes_per_s"].get<double>())}});
  print_out("{}\n", what);
  print_table(table, {"bytes", "us", "GB/s"});
}

void print_text(const Json& json) {
  const auto number = [](const Json& value) { return value.get<double>(); };
  const int threads = json["threads"].get<int>();
  print_out("ranks {}, {} thread{} each, {} rows in a batch\n", json["ranks"].get<int>(), threads,
            threads == 1 ? "" : "s", json["batch"].get<std::int64_t>());
  print_times(json["sweep"], "all-reduce of");
  print_times(json["buckets"], "buckets of gradients");
  print_out("link   latency {:.1f} us, {:.3f} GB/s between neighbours in a ring\n", number(json["link"]["latency_us"]),
            number(json["link"]["gbytes_per_s"]));
  const Json& compute = json["compute_ms"];
  print_out("step   {:.3f} ms at best; computation alone {:.3f} (forward {:.3f}, backward {:.3f}, update {:.3f}),\n",
            number(json["step_ms"]["best"]), number(compute["step"]), number(compute["forward"]),
            number(compute["backward"]), number(compute["update"]));
  print_out("       all-reduces alone {:.3f}; step / larger of both: {:.2f}\n", number(json["communication_ms"]),
            number(json["step_over_larger"]));
  Json table = Json::array();
  for (const Json& row : json["scaling"])
    table.push_back(
        {{"ranks", std::to_string(row["ranks"].get<int>())},
         {"step ms", fmt::format("{:.3f}", number(row["step_ms"]))},
         {"all-reduces ms", fmt::format("{:.3f}", number(row["communication_ms"]))},
         {"efficiency", fmt::format("{:.1f} %", 100 * number(row["efficiency"]))},
         {"measured ms", row.contains("measured_ms") ? fmt::format("{:.3f}", number(row["measured_ms"])) : "-"}});
  print_out("with {} rows on each of\n",
            std::max<std::int64_t>(1, json["batch"].get<std::int64_t>() / json["ranks"].get<int>()));
  print_table(table, {"ranks", "step ms", "all-reduces ms", "efficiency", "measured ms"});
}

int bench(const BenchFlags& flags) {
  const std::shared_ptr<Communicator> ranks = flags.ranks.open(flags.json, flags.executor.device);
  if (!ranks) throw_input_error("at least two ranks", "one", "mpirun -n 2 halfstep bench-communication MODEL.onnx");
  return on_rank(*ranks, flags.json, [&] {
    const Json json = measure(ranks, flags);
    if (flags.json)
      print_json(json);
    else
      print_text(json);
    return 0;
  });
}

}  // namespace

void add_bench_communication(CLI::App& app, int& exit_code) {
  CLI::App* command =
      add_command(app, "bench-communication", "Times the exchange of gradients, and predicts how a step scales.");
  command->footer(R"(Times all-reduces of the model's buckets and of other sizes, and a training step
with and without them, and predicts the time of a step on up to 1,024 ranks.
Without --data the data is synthetic.

Example:
  mpirun -n 2 halfstep bench-communication model.onnx --batch 64)");
  auto flags = std::make_shared<BenchFlags>();
  add_model(*command, flags->model);
  command->add_option("--data", flags->data, "data of the training step; " + data_help())->type_name("DATA");
  command->add_option("--steps", flags->steps, "number of timed steps")
      ->capture_default_str()
      ->check(whole_number(1, 1 << 20));
  command
      ->add_option("--latency", flags->latency,
                   "latency between neighbours in microseconds, for the prediction (default: measured)")
      ->check(number_in(0, 1e6));
  command
      ->add_option("--bandwidth", flags->bandwidth,
                   "bandwidth between neighbours in gigabytes per second, for the prediction (default: measured)")
      ->check(number_in(1e-6, 1e6));
  flags->add_to(*command);
  flags->ranks.add_to(*command);
  flags->executor.add_to(*command);
  command->add_flag("--json", flags->json, "prints everything as JSON");
  command->callback([flags, &exit_code] { exit_code = bench(*flags); });
}

}  // namespace halfstep::cli
