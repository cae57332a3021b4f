// Of several kernels the fastest is taken: engines and algorithms of the libraries, and own kernels beside theirs. The
// emulated device has a clock, which goes on by as much as a test says.
#include "executors/cudnn/fastest.h"

#include <cstdlib>
#include <map>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conformance/executor_check.h"
#include "executors/memory_limit.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/op_case_util.h"
#include "tests/temporary_directory.h"
#include <halfstep/executors/memory_use.h>
#include <halfstep/ops/builder.h>

namespace halfstep::cudnn {
namespace {

using namespace cases;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

const OpTest kConvolution = {"", "Conv", "", {real({2, 3, 6, 6}), real({4, 3, 3, 3})}};
const OpTest kConvolutions[] = {
    kConvolution,
    {"", "ConvGradInput", kOwn, {real({2, 4, 4, 4}), real({4, 3, 3, 3})}, {{"input_shape", Ints{2, 3, 6, 6}}}},
    {"", "ConvGradWeight", kOwn, {real({2, 4, 4, 4}), real({2, 3, 6, 6})}, {{"weight_shape", Ints{4, 3, 3, 3}}}}};
const OpTest kProduct = {"", "MatMul", "", {real({5, 7}), real({7, 4})}};

class FastestTest : public testing::Test {
 protected:
  FastestTest() { keep_in("first"); }
  ~FastestTest() override {
    emulation::machine() = {};
    emulation::duration() = {};
    ::setenv("HALFSTEP_KERNEL_CACHE", "/proc/nothing", 1);
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_STREQ(emulation::latest_refusal(), "");
  }

  void keep_in(const std::string& name) {
    kept_ = folder_ / name;
    ::setenv("HALFSTEP_KERNEL_CACHE", kept_.c_str(), 1);
  }
  std::filesystem::path file() const { return kept_ / "choices.json"; }
  void write(const std::string& text) const {
    std::filesystem::create_directories(kept_);
    write_text(file(), text);
  }
  /// A process reads a file once: the next one is given a copy, under another name.
  void begin_next_process(const std::string& name) {
    const std::filesystem::path before = file();
    keep_in(name);
    std::filesystem::create_directories(kept_);
    if (std::filesystem::exists(before)) std::filesystem::copy_file(before, file());
  }

  /// Work of a kind, in microseconds by number; 1 where nothing is said.
  void set_times(std::string kind, std::map<int, double> times) {
    emulation::duration() = [this, kind = std::move(kind), times = std::move(times)](std::string_view of, int number) {
      if (of != kind) return 1.0;
      ++timed_;
      const auto found = times.find(number);
      return found == times.end() ? 1.0 : found->second;
    };
  }
  /// Work of that kind while the graph is compiled, and the plan.
  int compile(const Graph& graph, Plan* plan = nullptr, std::string* wrong = nullptr,
              const std::vector<Tensor>& values = {}) {
    const auto executor = emulated_executor();
    const auto store = executor->make_store();
    const int before = timed_;
    const auto program = executor->compile(graph, *store);
    const int timed = timed_ - before;
    if (plan) *plan = program->plan();
    if (wrong) *wrong = execution_difference(graph, values, *executor);
    return timed;
  }
  /// The plan's entry: kernel and remark.
  std::string taken(const OpTest& test, DType dtype = DType::f32) {
    std::vector<Tensor> values;
    const Graph graph = make_graph(test, dtype, values, 3);
    Plan plan;
    std::string wrong;
    latest_timed_ = compile(graph, &plan, &wrong, values);
    EXPECT_EQ(wrong, "") << test.op;
    notes_ = plan.notes;
    const PlanEntry entry = first_node(plan);
    return entry.kernel + " | " + entry.reason;
  }

  const TemporaryDirectory folder_;
  std::filesystem::path kept_;
  std::vector<std::string> notes_;
  int timed_ = 0, latest_timed_ = 0;
};

TEST_F(FastestTest, IsTheEngineOfLeastTime) {
  set_times("engine", {{2, 5}, {3, 0.5}, {4, 7}});
  for (const OpTest& test : kConvolutions) {
    EXPECT_THAT(taken(test), HasSubstr(", engine 3 | workspace 1024 bytes, measured 0.5 us, of 3: engine 3 k2=13"))
        << test.op;
    EXPECT_GT(latest_timed_, 0);
  }
}

TEST_F(FastestTest, IsTheFirstOfThoseThatAreAsFastButForChance) {
  set_times("engine", {{2, 101}, {3, 100}, {4, 101}});
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 2 | workspace 4096 bytes, measured 101.0 us, of 3"));
}

TEST_F(FastestTest, IsTakenByAllThatAreAlikeAndByTheNextProcess) {
  set_times("engine", {{2, 5}, {3, 0.5}, {4, 7}});
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr x = b.expr(g.add_input("x", DType::f32, {2, 3, 6, 6}));
  const auto add = [&](const char* name) {
    g.outputs.push_back(b.op("Conv", {x, b.expr(g.add_input(name, DType::f32, {4, 3, 3, 3}))}).id());
  };
  add("v");
  const int for_one = compile(g);
  EXPECT_GT(for_one, 0);
  add("w");
  EXPECT_EQ(compile(g), 0) << "it is known by now";
  keep_in("another");
  Plan plan;
  EXPECT_EQ(compile(g, &plan), for_one) << "layers that are alike are timed once";
  begin_next_process("next");
  set_times("engine", {{2, 0.1}});
  EXPECT_EQ(compile(g, &plan), 0);
  EXPECT_THAT(first_node(plan).kernel, EndsWith("engine 3"));
  EXPECT_THAT(first_node(plan).reason, HasSubstr("measured 0.5 us, of 3"));
}

TEST_F(FastestTest, IsWhatAnotherProcessHasWrittenMeanwhile) {
  set_times("engine", {{2, 5}, {3, 0.5}, {4, 7}});
  taken(kConvolution);
  const std::filesystem::path written = file();
  keep_in("another");
  emulation::duration() = [&](std::string_view, int number) {
    std::filesystem::create_directories(kept_);
    std::filesystem::copy_file(written, file(), std::filesystem::copy_options::skip_existing);
    return number == 2 ? 0.1 : 1.0;
  };
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
}

TEST_F(FastestTest, IsTheFirstWhereNothingIsKept) {
  set_times("engine", {{3, 0.5}});
  ::setenv("HALFSTEP_KERNEL_CACHE", "/proc/nothing", 1);
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 2 | workspace 4096 bytes"));
  EXPECT_EQ(latest_timed_, 0) << "times that nothing keeps are not taken";
  EXPECT_THAT(notes_, testing::Contains(HasSubstr("no kernels are timed, as choices cannot be kept: /proc/nothing")));
}

TEST_F(FastestTest, IsNoneThatFails) {
  set_times("engine", {{2, 0.1}, {3, 0.5}});
  emulation::machine().failing_workspace = 4096;  // engine 2
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the next kernel would report it";
}

TEST_F(FastestTest, IsNotKeptWhereAllFail) {
  std::vector<Tensor> values;
  const Graph graph = make_graph(kConvolution, DType::f32, values, 3);
  emulation::machine().failing_workspace = 1;
  Plan plan;
  compile(graph, &plan);
  EXPECT_THAT(first_node(plan).kernel, EndsWith("engine 2"));
  EXPECT_THAT(first_node(plan).reason, HasSubstr("the first of 3, as all failed when they were timed"));
  emulation::machine().failing_workspace = 0;
  set_times("engine", {{3, 0.5}});
  EXPECT_EQ(compile(graph), 0) << "its programs would compute different bits";
  begin_next_process("next");
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
}

TEST_F(FastestTest, IsTheFirstWhereTheFileCannotBeWritten) {
  std::filesystem::create_directories(file());  // a folder of that name
  set_times("engine", {{3, 0.5}});
  for (int node = 0; node < 2; ++node)
    EXPECT_THAT(taken(kConvolution),
                HasSubstr(", engine 2 | workspace 4096 bytes, the first of 3, as the choice could"));
  EXPECT_THAT(notes_, testing::Contains(HasSubstr("no kernels are timed, as choices cannot be kept: ")));
}

TEST_F(FastestTest, IsTimedWithoutAGraphWhereNoneCanBeCaptured) {
  set_times("engine", {{3, 0.5}});
  emulation::machine().can_capture = false;
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
}

/// A product with a state: timing takes the state a second time.
Graph product_with_state() {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr w = b.expr(g.add_state("w", Tensor(DType::f32, {256, 256}), StateRole::parameter));
  g.outputs = {b.op("MatMul", {b.expr(g.add_input("x", DType::f32, {2, 256})), w}).id()};
  return g;
}
constexpr std::size_t kStateBytes = 256 * 256 * sizeof(float);

TEST_F(FastestTest, IsTheFirstForTheProcessWhereTheDeviceHasNoMemoryForTiming) {
  emulation::machine().algorithms = 3;
  set_times("algorithm", {{1, 0.5}});
  emulation::machine().memory = kStateBytes + kStateBytes / 2;
  Plan plan;
  EXPECT_EQ(compile(product_with_state(), &plan), 0);
  EXPECT_THAT(first_node(plan).reason, HasSubstr("the first of 3, as there was no memory to time them"));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  emulation::machine().memory = 4 * kStateBytes;
  EXPECT_EQ(compile(product_with_state()), 0) << "its programs would compute different bits";
  begin_next_process("next");
  EXPECT_GT(compile(product_with_state(), &plan), 0);
  EXPECT_THAT(first_node(plan).reason, HasSubstr("measured 0.5 us, of 3: algorithm 1"));
}

TEST_F(FastestTest, KeepsToAMemoryLimit) {
  emulation::machine().algorithms = 3;
  set_times("algorithm", {{1, 0.5}});
  const Graph graph = product_with_state();
  const auto most_with = [&](std::size_t limit) {
    emulation::most_memory();
    const MemoryLimit within(limit);
    compile(graph);
    return emulation::most_memory();
  };
  for (const std::size_t limit : {kStateBytes + kStateBytes / 2, 3 * kStateBytes}) {
    keep_in(std::to_string(limit));
    EXPECT_LE(most_with(limit), limit);
    Plan plan;
    compile(graph, &plan);
    EXPECT_THAT(first_node(plan).reason, HasSubstr(limit < 2 * kStateBytes ? "no memory to time" : "measured"));
  }
}

TEST_F(FastestTest, IsTheAlgorithmOfLeastTime) {
  emulation::machine().algorithms = 3;
  set_times("algorithm", {{0, 2}, {1, 0.5}, {2, 1.5}});
  EXPECT_THAT(taken(kProduct, DType::f16), HasSubstr("cublaslt: matmul | measured 0.5 us, of 3: algorithm 1"));
}

TEST_F(FastestTest, IsCompiledOnlyWhereItIsTimedOrTaken) {
  set_times("engine", {{4, 0.5}});
  const int before = emulation::plans_compiled();
  EXPECT_THAT(taken(kConvolution),
              HasSubstr(", engine 4 | compiled at run time, workspace 512 bytes, measured 0.5 us"));
  EXPECT_EQ(emulation::plans_compiled() - before, 1);
  keep_in("another");
  set_times("engine", {{3, 0.5}});
  taken(kConvolution);
  begin_next_process("next");
  const int compiled = emulation::plans_compiled();
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
  EXPECT_EQ(emulation::plans_compiled(), compiled);
}

TEST_F(FastestTest, IsMadeAgainWhereTheFileIsDamagedOrOfAnotherVersion) {
  set_times("engine", {{3, 0.5}});
  taken(kConvolution);
  const std::string whole = read_text(file());
  EXPECT_THAT(notes_, Not(testing::Contains(HasSubstr("choices.json"))));
  std::string older = whole;
  older.replace(older.find("cuDNN "), 6, "cuDNN 1");
  const std::pair<std::string, const char*> files[] = {
      {whole.substr(0, whole.size() / 2), "choices.json is damaged, and made again"},
      {"[]", "choices.json is damaged, and made again"},
      {older, "choices.json is of other versions, and what it holds is measured again"}};
  int number = 0;
  for (const auto& [text, note] : files) {
    keep_in("of" + std::to_string(++number));
    write(text);
    EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
    EXPECT_GT(latest_timed_, 0);
    EXPECT_THAT(notes_, testing::Contains(HasSubstr(note)));
    begin_next_process("then" + std::to_string(number));
    EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
    EXPECT_EQ(latest_timed_, 0);
    EXPECT_THAT(notes_, Not(testing::Contains(HasSubstr("choices.json"))));
  }
}

TEST_F(FastestTest, IsNotWhatAFileNamesThatIsNoCandidate) {
  set_times("engine", {{3, 0.5}});
  taken(kConvolution);
  std::string text = read_text(file());
  text.replace(text.find("engine 3 k2=13; measured"), 8, "engine 9");
  keep_in("another");
  write(text);
  EXPECT_THAT(taken(kConvolution), HasSubstr(", engine 3 |"));
  EXPECT_GT(latest_timed_, 0);
}

/// Nothing is allocated or waited for while another thread's step is captured: the emulation refuses that.
TEST_F(FastestTest, IsTimedWhenNoStepIsCaptured) {
  std::vector<Tensor> values;
  const Graph graph = make_graph(kConvolution, DType::f32, values, 3),
              other_graph = make_graph(kConvolutions[1], DType::f32, values, 3);
  const auto executor = emulated_executor();
  const auto store = executor->make_store(), other_store = executor->make_store();
  const auto program = executor->compile(graph, *store);
  std::thread other;
  emulation::machine().at_capture = [&] {
    if (other.joinable()) return;
    other = std::thread([&] { executor->compile(other_graph, *other_store); });
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // it could have come in
  };
  for (int step = 0; step < 3; ++step) program->run();
  other.join();
}

}  // namespace
}  // namespace halfstep::cudnn
