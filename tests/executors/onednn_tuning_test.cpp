// Kernels that are chosen by measuring them, and the file that keeps what was measured.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "base/cache_folder.h"
#include "executors/onednn/tuning.h"
#include "tests/executors/onednn_testing.h"
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

TEST(Tuner, PassesOverWhatFails) {
  int prepared = 0;
  const Candidate broken{"broken", []() -> core::Run { throw std::bad_alloc(); }};
  const Candidate fails{"fails", [] { return [] { throw std::runtime_error("no"); }; }};
  Tuner tuner(Tuning::full, "machine", {});
  EXPECT_EQ(tuner.choose("a", {broken, fails, summing("works", 20, prepared)}), 2u);
  EXPECT_EQ(tuner.choose("b", {broken, fails}), 0u);  // as the rules say
  EXPECT_NE(tuner.notice(), "");
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
