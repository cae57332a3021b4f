// Kernels that are chosen by measuring them, and the file that keeps what was measured.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cache_folder.h"
#include "executors/onednn/simd/winograd.h"
#include "executors/onednn/tuning.h"
#include "tests/executors/attention_cases.h"
#include "tests/temporary_directory.h"

namespace halfstep::testing {
namespace {

namespace fs = std::filesystem;
using onednn::Candidate;
using onednn::Tuner;

/// A candidate that adds up `n` numbers, and counts how often it is prepared.
Candidate summing(const std::string& name, int n, int& prepared) {
  return {name, [n, &prepared] {
            ++prepared;
            return [n] {
              volatile double sum = 0;
              for (int i = 0; i < n; ++i) sum = sum + i;
            };
          }};
}

struct Both {
  int prepared = 0;
  std::vector<Candidate> candidates{summing("slow", 200000, prepared), summing("fast", 20, prepared)};
};

TEST(Tuner, TakesTheFastestAndKeepsIt) {
  const TemporaryDirectory folder;
  const fs::path file = folder.path() / "made" / "tuning.json";
  Both both;
  Tuner first(Tuning::fast, "machine", file);
  EXPECT_EQ(first.choose("a", both.candidates), 1u);
  EXPECT_EQ(first.choose("a", both.candidates), 1u);
  EXPECT_EQ(both.prepared, 2);
  first.save();
  EXPECT_EQ(first.notice(), "");

  Tuner second(Tuning::fast, "machine", file);
  EXPECT_EQ(second.choose("a", both.candidates), 1u);
  EXPECT_EQ(both.prepared, 2);  // nothing was measured
  // What is pinned counts, not what would be faster now.
  std::vector<Candidate> turned{summing("fast", 200000, both.prepared), summing("slow", 20, both.prepared)};
  EXPECT_EQ(second.choose("a", turned), 0u);
  EXPECT_EQ(both.prepared, 2);
  // Another machine, another key, candidates without the one that was chosen: measured.
  EXPECT_EQ(Tuner(Tuning::fast, "another", file).choose("a", both.candidates), 1u);
  EXPECT_EQ(second.choose("b", both.candidates), 1u);
  std::vector<Candidate> others{summing("x", 200000, both.prepared), summing("y", 20, both.prepared)};
  EXPECT_EQ(second.choose("a", others), 1u);
  EXPECT_EQ(both.prepared, 8);
}

TEST(Tuner, PreparesTwoAtATime) {
  int alive = 0, most = 0;
  const auto candidate = [&](const std::string& name, int n) {
    return Candidate{name, [&, n] {
                       most = std::max(most, ++alive);
                       const std::shared_ptr<void> memory(nullptr, [&](void*) { --alive; });
                       return [n, memory] {
                         volatile double sum = 0;
                         for (int i = 0; i < n; ++i) sum = sum + i;
                       };
                     }};
  };
  Tuner tuner(Tuning::fast, "machine", {});
  EXPECT_EQ(
      tuner.choose("a", {candidate("1", 200000), candidate("2", 100000), candidate("3", 20), candidate("4", 50000)}),
      2u);
  EXPECT_EQ(most, 2);
  EXPECT_EQ(alive, 0);
}

TEST(Tuner, TakesOneOfTwoWhicheverTheRulesSay) {
  int prepared = 0;
  Tuner tuner(Tuning::fast, "machine", {});
  const auto slow = [&] { return summing("slow", 200000, prepared); };
  const auto fast = [&] { return summing("fast", 20, prepared); };
  for (const bool by_rules : {false, true}) {
    const std::string key = by_rules ? "second" : "first";
    EXPECT_TRUE(tuner.takes_second(key + " slow", slow(), fast(), by_rules));
    EXPECT_FALSE(tuner.takes_second(key + " fast", fast(), slow(), by_rules));
  }
  // Of two that fail it is that of the rules.
  const Candidate fails{"fails", [] { return [] { throw std::runtime_error("no"); }; }},
      broken{"broken", [] { return core::Run(); }};
  EXPECT_FALSE(tuner.takes_second("c", fails, broken, false));
  EXPECT_TRUE(tuner.takes_second("d", fails, broken, true));
}

TEST(Tuner, PassesOverWhatFails) {
  int prepared = 0;
  const Candidate broken{"broken", []() -> core::Run { throw std::bad_alloc(); }};
  const Candidate fails{"fails", [] { return [] { throw std::runtime_error("no"); }; }};
  Tuner tuner(Tuning::full, "machine", {});
  EXPECT_EQ(tuner.choose("a", {broken, fails, summing("works", 20, prepared)}), 2u);
  EXPECT_EQ(tuner.choose("b", {broken, fails}), 0u);  // as the rules say
  EXPECT_NE(tuner.notice(), "");
}

TEST(Tuner, KeepsAFasterOneWhenTheFirstFailsLater) {
  int prepared = 0;
  bool fails = false;
  const Candidate first{"first", [&fails]() -> core::Run {
                          return [&fails] {
                            if (fails) throw std::bad_alloc();
                            volatile double sum = 0;
                            for (int i = 0; i < 200000; ++i) sum = sum + i;
                          };
                        }};
  Candidate last = summing("last", 100000, prepared);
  last.prepare = [&fails, prepare = last.prepare] {
    fails = true;
    return prepare();
  };
  Tuner tuner(Tuning::fast, "machine", {});
  EXPECT_EQ(tuner.choose("a", {first, summing("fast", 20, prepared), last}), 1u);
}

TEST(Tuner, SurvivesEveryFile) {
  const TemporaryDirectory folder;
  const fs::path file = folder.path() / "tuning.json";
  for (const std::string text : {"", "{", "[1, 2]", "{\"machine\": 3}", "{\"machine\": {\"a\": 7, \"b\": \"gone\"}}",
                                 "\xff\xfe{}", "{\"machine\": {\"a\": \"fast"}) {
    SCOPED_TRACE(text);
    std::ofstream(file, std::ios::binary) << text;
    Both both;
    Tuner tuner(Tuning::fast, "machine", file);
    EXPECT_EQ(tuner.choose("a", both.candidates), 1u);
    tuner.save();
    EXPECT_EQ(tuner.notice(), "");
    Tuner again(Tuning::fast, "machine", file);
    EXPECT_EQ(again.choose("a", both.candidates), 1u);
    EXPECT_EQ(both.prepared, 2);
  }
}

TEST(Tuner, TellsOfAFileThatCannotBeWritten) {
  const TemporaryDirectory folder;
  std::ofstream(folder.path() / "file") << "a file, not a folder";
  for (const fs::path& file : {folder.path() / "file" / "tuning.json", folder.path()}) {
    Both both;
    Tuner tuner(Tuning::fast, "machine", file);
    EXPECT_EQ(tuner.choose("a", both.candidates), 1u);
    tuner.save();
    EXPECT_NE(tuner.notice(), "") << file;
  }
}

TEST(Tuner, WritesWhatItCouldNotWriteTheNextTime) {
  const TemporaryDirectory folder;
  const fs::path parent = folder.path() / "later", file = parent / "tuning.json";
  std::ofstream(parent) << "a file, not a folder";
  Both both;
  Tuner tuner(Tuning::fast, "machine", file);
  tuner.choose("a", both.candidates);
  tuner.save();
  EXPECT_NE(tuner.notice(), "");
  fs::remove(parent);
  tuner.save();
  EXPECT_EQ(tuner.notice(), "");
  EXPECT_EQ(Tuner(Tuning::fast, "machine", file).choose("a", both.candidates), 1u);
  EXPECT_EQ(both.prepared, 2);
}

// Each reads the file and writes it anew: without a lock one would write what it read before the others wrote.
TEST(Tuner, WritersWaitForEachOther) {
  const TemporaryDirectory folder;
  const fs::path file = folder.path() / "tuning.json";
  constexpr int kWriters = 8;
  std::vector<pid_t> writers;
  for (int i = 0; i < kWriters; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Both both;
      for (int k = 0; k < 4; ++k) {
        Tuner tuner(Tuning::fast, "machine", file);
        tuner.choose(std::to_string(i) + " " + std::to_string(k), both.candidates);
        // On a busy machine a writer may wait longer than its patience.
        constexpr int kMostTries = 20;
        for (int tries = 0; tries == 0 || (tries < kMostTries && !tuner.notice().empty()); ++tries) tuner.save();
        if (!tuner.notice().empty()) _exit(1);
      }
      _exit(0);
    }
    writers.push_back(child);
  }
  for (const pid_t child : writers) {
    int status = 1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  Both both;
  Tuner all(Tuning::fast, "machine", file);
  for (int i = 0; i < kWriters; ++i)
    for (int k = 0; k < 4; ++k) all.choose(std::to_string(i) + " " + std::to_string(k), both.candidates);
  EXPECT_EQ(both.prepared, 0);
}

TEST(Tuner, KeepsWhatOthersWroteMeanwhile) {
  const TemporaryDirectory folder;
  const fs::path file = folder.path() / "tuning.json";
  Both both;
  Tuner first(Tuning::fast, "machine", file), second(Tuning::fast, "other", file), third(Tuning::fast, "machine", file);
  first.choose("a", both.candidates);
  second.choose("a", both.candidates);
  third.choose("b", both.candidates);
  for (Tuner* tuner : {&first, &second, &third}) tuner->save();
  const int before = both.prepared;
  Tuner(Tuning::fast, "other", file).choose("a", both.candidates);
  Tuner all(Tuning::fast, "machine", file);
  all.choose("a", both.candidates);
  all.choose("b", both.candidates);
  EXPECT_EQ(both.prepared, before);
}

/// The cache folder of this process, while it lives.
class CacheFolder {
 public:
  explicit CacheFolder(const fs::path& path) {
    if (const char* value = std::getenv("XDG_CACHE_HOME")) before_ = value;
    setenv("XDG_CACHE_HOME", path.c_str(), 1);
  }
  ~CacheFolder() {
    if (before_.empty())
      unsetenv("XDG_CACHE_HOME");
    else
      setenv("XDG_CACHE_HOME", before_.c_str(), 1);
  }
  CacheFolder(const CacheFolder&) = delete;
  CacheFolder& operator=(const CacheFolder&) = delete;

 private:
  std::string before_;
};

using Ints = std::vector<std::int64_t>;

/// The keys in the file of choices.
std::vector<std::string> keys_in(const fs::path& file) {
  std::ifstream in(file);
  const nlohmann::json json = nlohmann::json::parse(in);
  std::vector<std::string> keys;
  for (const auto& [machine, choices] : json.items())
    for (const auto& [key, name] : choices.items()) keys.push_back(key);
  return keys;
}
bool has_key(const std::vector<std::string>& keys, const std::string& part) {
  return std::ranges::any_of(keys, [&](const std::string& key) { return key.find(part) != std::string::npos; });
}

/// Products, convolutions and their gradients.
Graph network(DType dtype) {
  TestGraph t;
  const Expr a = t.input(dtype, {3, 20, 40}), b = t.input(dtype, {3, 40, 24});
  t.output(t.b.op("MatMul", {a, b}));
  t.output(t.b.op("Gemm", {t.input(dtype, {16, 50}), t.input(dtype, {16, 50}), t.input(dtype, {16, 1})},
                  {{"transB", std::int64_t{1}}, {"alpha", 0.5F}}));
  const Expr x = t.input(dtype, {2, 16, 9, 9}), w = t.input(dtype, {16, 16, 3, 3});
  t.output(t.b.op("Conv", {x, w}, {{"pads", Ints{1, 1, 1, 1}}}));
  const Attributes depthwise{{"group", std::int64_t{16}}, {"pads", Ints{1, 1, 1, 1}}};
  const Expr single = t.input(dtype, {16, 1, 3, 3});
  const Expr y = t.b.op("Conv", {x, single}, depthwise);
  t.output(y);
  const Expr dy = t.input(dtype, {2, 16, 9, 9});
  for (const auto& [weights, group] : {std::pair(w, std::int64_t{1}), std::pair(single, std::int64_t{16})}) {
    Attributes input{{"group", group}, {"pads", Ints{1, 1, 1, 1}}, {"kernel_shape", Ints{3, 3}}}, weight = input;
    input.set("input_shape", Ints{2, 16, 9, 9});
    weight.set("weight_shape", Ints{16, 16 / group, 3, 3});
    t.output(t.b.own("ConvGradInput", {dy, weights}, input));
    t.output(t.b.own("ConvGradWeight", {dy, x}, weight));
  }
  return t.graph;
}

TEST(OneDnnTuning, ComputesTheSameAndKeepsItsChoices) {
  for (const Tuning tuning : {Tuning::fast, Tuning::full}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(std::string(name_of(tuning)) + " " + std::string(name_of(dtype)));
      const TemporaryDirectory folder;
      const CacheFolder cache(folder.path());
      const Graph graph = network(dtype);
      const ExecutorOptions options{.tuning = tuning};
      expect_like_reference(graph, epsilon_of(dtype), 1, -1, 1, options);
      ASSERT_TRUE(fs::exists(cache_folder() / "tuning.json"));
      const auto written = fs::last_write_time(cache_folder() / "tuning.json");
      std::vector<std::string> kernels[2];
      for (auto& list : kernels) {
        const Compiled compiled(make_onednn_executor(options), graph);
        EXPECT_TRUE(compiled.program->plan().notes.empty());
        for (const PlanEntry& entry : compiled.program->plan().entries) list.push_back(entry.kernel);
      }
      EXPECT_EQ(kernels[0], kernels[1]);
      EXPECT_EQ(fs::last_write_time(cache_folder() / "tuning.json"), written);  // nothing was measured again
    }
  }
}

// Of a gradient of weights the share of a thread is measured where images are shared out, the whole elsewhere; neither
// where oneDNN has a single implementation for this CPU.
TEST(OneDnnTuning, MeasuresWeightGradientsAsTheyRun) {
  for (const int threads : {1, 2}) {
    for (const std::int64_t group : {std::int64_t{1}, std::int64_t{16}}) {
      SCOPED_TRACE(std::to_string(threads) + " threads, group " + std::to_string(group));
      const TemporaryDirectory folder;
      const CacheFolder cache(folder.path());
      TestGraph t;
      const Expr x = t.input(DType::f32, {4, 16, 20, 20}), dy = t.input(DType::f32, {4, 16, 18, 18});
      t.output(t.b.own("ConvGradWeight", {dy, x},
                       {{"kernel_shape", Ints{3, 3}}, {"weight_shape", Ints{16, 16 / group, 3, 3}}, {"group", group}}));
      expect_like_reference(t.graph, 1e-5, 1, -1, 1, {.threads = threads, .tuning = Tuning::full});
      const fs::path file = cache_folder() / "tuning.json";
      const std::vector<std::string> keys = fs::exists(file) ? keys_in(file) : std::vector<std::string>();
      // There are always two who compute a depthwise one, and one that Winograd's algorithm can.
      EXPECT_EQ(has_key(keys, "maker"), group == 16 || simd::has_winograd(3, 16) || simd::has_winograd(3, 8));
      for (const std::string& key : keys) {
        if (key.find("maker") != std::string::npos) continue;
        EXPECT_EQ(key.find("one of the shares") != std::string::npos, threads == 2)
            << key << " is measured and does not run";
      }
    }
  }
}

TEST(OneDnnTuning, MeasuresProductsOfRecurrentCellsAndAttention) {
  const TemporaryDirectory folder;
  const CacheFolder cache(folder.path());
  {
    TestGraph t;
    constexpr std::int64_t kSteps = 5, kBatch = 3, kInputs = 20, kHidden = 24;
    t.output(t.b.op("LSTM",
                    {t.input(DType::f32, {kSteps, kBatch, kInputs}), t.state("w", {1, 4 * kHidden, kInputs}),
                     t.state("r", {1, 4 * kHidden, kHidden})},
                    {{"hidden_size", kHidden}}));
    expect_like_reference(t.graph, 1e-5, 1, -1, 1, {.tuning = Tuning::fast});
    EXPECT_TRUE(has_key(keys_in(cache_folder() / "tuning.json"), "product f32"));
  }
  for (const AttentionCase& c : kAttentionCases) {
    SCOPED_TRACE(c.what);
    expect_like_reference(attention_graph(c, DType::f32).graph, 1e-5, 1, -1, 1, {.tuning = Tuning::fast});
  }
  EXPECT_TRUE(has_key(keys_in(cache_folder() / "tuning.json"), ", a thread's"));
}

TEST(OneDnnTuning, WritesNothingUnlessAsked) {
  const TemporaryDirectory folder;
  const CacheFolder cache(folder.path());
  expect_like_reference(network(DType::f32), epsilon_of(DType::f32));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(OneDnnTuning, GoesOnWithoutACacheAndSaysSo) {
  const TemporaryDirectory folder;
  std::ofstream(folder.path() / "file") << "no folder";
  const CacheFolder cache(folder.path() / "file");
  const Compiled compiled(make_onednn_executor({.tuning = Tuning::fast}), network(DType::f32));
  ASSERT_EQ(compiled.program->plan().notes.size(), 1u);
  EXPECT_NE(compiled.program->plan().notes[0].find("for this run alone"), std::string::npos);
}

}  // namespace
}  // namespace halfstep::testing
