// Where the time of a step goes, through the public interface.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/session/profile.h>
#include <halfstep/session/session.h>

namespace halfstep {
namespace {

class Profiles : public ::testing::TestWithParam<const char*> {
 protected:
  Profile run(int steps = 3) {
    Graph graph = parse_model(kText).graph;
    const std::map<std::string, std::string> names{
        {"MatMul", "/block/inner/MatMul"}, {"Tanh", "/block/inner/Tanh"}, {"CumSum", "/block/CumSum"}, {"Exp", "Exp"}};
    for (std::size_t n = 0; n < graph.nodes.size(); ++n) graph.edit(n)->name = names.at(graph.nodes[n].op);
    Session session(std::move(graph), *executor);
    return session.profile({{"x", Tensor(DType::f32, {16, 8})}}, {.steps = steps});
  }

  static constexpr const char* kText =
      R"(<ir_version: 10, opset_import: ["": 24]> m (float[N, 8] x) => (float[N, 2] y)
         <float[8, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}, int64 axis = {1}>
         { p = MatMul(x, w) q = Tanh(p) r = CumSum(q, axis) y = Exp(r) })";
  const std::unique_ptr<Executor> executor = make_executor(GetParam(), {});
};
INSTANTIATE_TEST_SUITE_P(Executors, Profiles, ::testing::Values("reference", "onednn"),
                         [](const auto& of) { return std::string(of.param); });

TEST_P(Profiles, HaveATimeForEachNodeAndSharesThatSumToOne) {
  const Profile profile = run();
  EXPECT_EQ(profile.executor, GetParam());
  EXPECT_GT(profile.best, 0);
  EXPECT_LE(profile.best, profile.mean);
  EXPECT_EQ(profile.executions.size(), 3U);
  double share = 0, least = 0;
  for (const ProfileEntry& entry : profile.entries) {
    share += entry.share;
    least += entry.least;
    EXPECT_LE(entry.best, entry.mean * (1 + 1e-12)) << entry.plan.node;
    EXPECT_EQ(entry.best > 0, entry.facts.kind != EntryKind::view) << entry.plan.node;
  }
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_DOUBLE_EQ(least, profile.least);
  const auto product = std::ranges::find_if(profile.entries, [](const auto& e) { return e.plan.op == "MatMul"; });
  ASSERT_NE(product, profile.entries.end());
  EXPECT_EQ(product->facts.cost.flops, 2 * 16 * 8 * 2);
  EXPECT_EQ(product->scope, "/block/inner");
}

TEST_P(Profiles, HaveNoNodeThatComputesFasterThanThePeak) {
  const Profile profile = run();
  for (const ProfileEntry& entry : profile.entries) {
    const auto peak = profile.peaks.flops.find(entry.facts.computed);
    if (peak == profile.peaks.flops.end() || entry.best == 0) continue;
    EXPECT_LE(entry.facts.cost.flops / entry.best, peak->second) << entry.plan.node;
  }
}

TEST_P(Profiles, AddUpByOperatorAndScope) {
  const Profile profile = run();
  for (const ProfileBy by : {ProfileBy::node, ProfileBy::operators, ProfileBy::scope}) {
    double share = 0, best = 0, before = 1e9;
    std::int64_t entries = 0;
    for (const ProfileRow& row : rows_of(profile, by)) {
      share += row.share;
      best += row.best;
      entries += row.entries;
      EXPECT_LE(row.best, before);
      before = row.best;
    }
    EXPECT_NEAR(share, 1, 1e-9);
    EXPECT_EQ(entries, static_cast<std::int64_t>(profile.entries.size()));
  }
  const auto names = [&](std::size_t depth) {
    std::vector<std::string> found;
    for (const ProfileRow& row : rows_of(profile, ProfileBy::scope, depth)) found.push_back(row.name);
    return found;
  };
  EXPECT_THAT(names(0), ::testing::IsSupersetOf({"/block/inner", "/block", ""}));
  EXPECT_THAT(names(1), ::testing::UnorderedElementsAre("/block", ""));
}

TEST_P(Profiles, AreJson) {
  const Profile profile = run();
  const auto json = nlohmann::json::parse(profile_json(profile));
  EXPECT_GT(json["peaks"]["gflops_per_s"]["f32"], 0);
  EXPECT_GT(json["peaks"]["gbytes_per_s"], 0);
  EXPECT_GE(json["peaks"]["spread"], 0);
  EXPECT_EQ(json["nodes"].size(), profile.entries.size());
  for (const char* list : {"nodes", "operators", "scopes"}) {
    double share = 0;
    for (const auto& row : json[list]) share += row["share"].get<double>();
    EXPECT_NEAR(share, 1, 1e-9) << list;
  }
}

TEST_P(Profiles, GiveATraceWhoseSlicesNest) {
  const Profile profile = run(2);
  const auto json = nlohmann::json::parse(trace_json(profile));
  std::vector<nlohmann::json> slices;
  std::map<std::string, int> by_category;
  bool named = false;
  for (const auto& event : json["traceEvents"]) {
    EXPECT_EQ(event["pid"], 1);
    EXPECT_EQ(event["tid"], 1);
    if (event["ph"] == "M") {
      named = named || event["name"] == "process_name";
      continue;
    }
    ASSERT_EQ(event["ph"], "X");
    EXPECT_GE(event["ts"], 0);
    EXPECT_GT(event["dur"], 0);
    slices.push_back(event);
    ++by_category[event["cat"]];
  }
  EXPECT_TRUE(named);
  EXPECT_EQ(by_category["step"], 2);
  EXPECT_EQ(by_category["scope"], 2 * 2);  // block and inner
  // Two slices lie one in the other, or beside each other. Times are rounded to a nanosecond.
  constexpr double kRounding = 2e-3;
  for (const auto& a : slices)
    for (const auto& b : slices) {
      const double a0 = a["ts"], a1 = a0 + a["dur"].get<double>(), b0 = b["ts"], b1 = b0 + b["dur"].get<double>();
      const bool apart = a1 <= b0 + kRounding || b1 <= a0 + kRounding;
      const bool nested =
          (a0 >= b0 - kRounding && a1 <= b1 + kRounding) || (b0 >= a0 - kRounding && b1 <= a1 + kRounding);
      EXPECT_TRUE(apart || nested) << a << b;
    }
}

TEST(Peaks, BoundACostByArithmeticOrMemory) {
  const MachinePeaks peaks{.flops = {{DType::f32, 100.0}, {DType::bf16, 400.0}}, .bytes = 10};
  EXPECT_DOUBLE_EQ(peaks.least({.flops = 1000, .bytes = 10}, DType::f32), 10);
  EXPECT_DOUBLE_EQ(peaks.least({.flops = 1000, .bytes = 10}, DType::bf16), 2.5);
  EXPECT_DOUBLE_EQ(peaks.least({.flops = 1000, .bytes = 10}, DType::f16), 10);  // not measured: as f32
  EXPECT_DOUBLE_EQ(peaks.least({.flops = 10, .bytes = 1000}, DType::f32), 100);
}

/// Whose every third run of a program takes `slower` times as long, by its own word.
class UnsteadyExecutor final : public Executor {
 public:
  explicit UnsteadyExecutor(double slower) : slower_(slower) {}
  std::string_view name() const override { return "unsteady"; }
  const Capabilities& capabilities() const override { return own_->capabilities(); }
  std::unique_ptr<StateStore> make_store() override { return own_->make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore&) override {
    return std::make_unique<UnsteadyProgram>(graph, slower_);
  }

 private:
  class UnsteadyProgram final : public TimedProgram {
   public:
    UnsteadyProgram(const Graph& graph, double slower) : slower_(slower) {
      plan_.entries = {{graph.nodes.back().name, "", "", "", 0}};
    }
    Tensor input(std::size_t) override { return {}; }
    Tensor output(std::size_t) override { return {}; }
    const Plan& plan() const override { return plan_; }
    void run() override {}
    const std::vector<EntryFacts>& facts() const override { return facts_; }
    std::vector<EntryTime> run_timed() override { return {{0, runs_++ % 3 == 0 ? 1e-3 : 1e-3 * slower_}}; }

   private:
    double slower_;
    int runs_ = 0;
    Plan plan_;
    std::vector<EntryFacts> facts_{{}};
  };

  double slower_;
  const std::unique_ptr<Executor> own_ = make_executor("reference", {});
};

TEST(Peaks, TellHowFarTheirRepetitionsLieApart) {
  for (const double slower : {1.0, 1.5}) {
    UnsteadyExecutor executor(slower);
    const MachinePeaks peaks = measure_peaks(executor, {});
    EXPECT_NEAR(peaks.spread, slower - 1, 1e-9);
    EXPECT_EQ(peaks.spread > MachinePeaks::kBusy, slower > 1);
    EXPECT_NEAR(peaks.flops.at(DType::f32), 2.0 * 1024 * 1024 * 1024 / 1e-3, 1) << "of the best";
  }
}

TEST(Scopes, AreWhatStandsBeforeTheLastPartOfAName) {
  EXPECT_EQ(scope_of("/encoder/layer.0/attention/MatMul"), "/encoder/layer.0/attention");
  EXPECT_EQ(scope_of("/encoder/layer.0/MatMul.grad/FusedGemm_7"), "/encoder/layer.0");
  EXPECT_EQ(scope_of("optimizer/AdamWStep_9"), "optimizer");
  EXPECT_EQ(scope_of("/MatMul"), "");
  EXPECT_EQ(scope_of("node_conv2d"), "");
}

TEST(Profiling, NeedsAStep) {
  const auto executor = make_executor("reference", {});
  Session session(
      parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m (float[N] x) => (float[N] y) { y = Neg(x) })").graph,
      *executor);
  EXPECT_THROW(session.profile({{"x", Tensor(DType::f32, {2})}}, {.steps = 0}), Error);
}

}  // namespace
}  // namespace halfstep
