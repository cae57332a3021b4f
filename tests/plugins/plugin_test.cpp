// Plug-ins are found by their names and taken by their scores; broken ones stop nothing. Against the library as it is
// installed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/plugin.h>
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/passes.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

/// HALFSTEP_PLUGIN_PATH for the scope.
class PluginPath {
 public:
  explicit PluginPath(std::initializer_list<const char*> folders) {
    std::string path;
    for (const char* folder : folders)
      path += (path.empty() ? "" : ":") + (fs::path(HALFSTEP_TEST_PLUGINS) / folder).string();
    setenv("HALFSTEP_PLUGIN_PATH", path.c_str(), 1);
  }
  ~PluginPath() { unsetenv("HALFSTEP_PLUGIN_PATH"); }
  PluginPath(const PluginPath&) = delete;
  PluginPath& operator=(const PluginPath&) = delete;
};

const ExecutorStatus* find(const std::vector<ExecutorStatus>& statuses, std::string_view name) {
  for (const ExecutorStatus& status : statuses)
    if (status.name == name) return &status;
  return nullptr;
}

std::string message_of(const char* name) {
  try {
    make_executor(name, {});
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

TEST(Plugins, AreFoundInTheFoldersOfTheVariable) {
  EXPECT_EQ(find(executor_statuses(), "mock"), nullptr);
  EXPECT_THAT(message_of("mock"), HasSubstr("got 'mock'"));
  const PluginPath path{"missing", "good"};
  const std::vector<ExecutorStatus> statuses = executor_statuses();
  const ExecutorStatus* mock = find(statuses, "mock");
  ASSERT_NE(mock, nullptr);
  EXPECT_TRUE(mock->available) << mock->reason;
  EXPECT_EQ(mock->capabilities.device, "reference (one CPU thread)");
  EXPECT_EQ(make_executor("mock", {})->name(), "mock");
  EXPECT_EQ(make_executor("reference", {})->name(), "reference");
}

TEST(Plugins, TheBestScoreIsTheDefault) {
  std::string notice;
  {
    const PluginPath path{"slow", "good"};
    EXPECT_EQ(make_executor("auto", {}, &notice)->name(), "mock");
    EXPECT_EQ(notice, "");
    std::vector<std::string> available;
    for (const ExecutorStatus& status : executor_statuses())
      if (status.available && status.name != "cudnn") available.push_back(status.name);
    EXPECT_THAT(available, testing::ElementsAre("mock", "onednn", "slow", "reference"));
  }
  const PluginPath path{"slow"};
  EXPECT_NE(make_executor("auto", {}, &notice)->name(), "slow");
  EXPECT_EQ(make_executor("slow", {})->name(), "slow");
}

TEST(Plugins, BrokenOnesAreToldOfInOneLineAndStopNothing) {
  const fs::path text_folder = fs::path(HALFSTEP_TEST_PLUGINS) / "text";
  fs::create_directories(text_folder);
  std::ofstream(text_folder / "libhalfstep-text.so") << "no library";
  const fs::path cut_folder = fs::path(HALFSTEP_TEST_PLUGINS) / "cut", cut = cut_folder / "libhalfstep-cut.so";
  fs::create_directories(cut_folder);
  fs::copy_file(fs::path(HALFSTEP_TEST_PLUGINS) / "empty" / "libhalfstep-empty.so", cut,
                fs::copy_options::overwrite_existing);
  fs::resize_file(cut, 1000);
  const fs::path pipe_folder = fs::path(HALFSTEP_TEST_PLUGINS) / "pipe";
  fs::create_directories(pipe_folder);
  mkfifo((pipe_folder / "libhalfstep-pipe.so").c_str(), 0600);  // it may be there already
  struct Case {
    const char *name, *reason;
  };
  const Case cases[] = {
      {"text", "cannot be loaded: "},
      {"cut", "cannot be loaded: the file is cut off"},
      {"pipe", "cannot be loaded: it is no regular file"},
      {"empty", "has no function 'halfstep_abi': it is no halfstep plug-in"},
      {"old", "was built for version 1 of the executor interface, and this halfstep has version "},
      {"throwing", "failed: the mock device is gone"},
      {"unscored", "has no function 'halfstep_score': only --plugin loads it"},
      {"onnx", "operators of a domain of the plug-in's own"},
  };
  for (const Case& c : cases) {
    const PluginPath path{c.name};
    std::string notice;
    const auto executor = make_executor("auto", {}, &notice);
    EXPECT_NE(executor->name(), c.name);
    EXPECT_THAT(notice, HasSubstr(c.reason));
    EXPECT_THAT(notice, HasSubstr(std::string("libhalfstep-") + c.name + ".so"));
    EXPECT_THAT(notice, Not(HasSubstr("\n")));
    const std::vector<ExecutorStatus> statuses = executor_statuses();
    const ExecutorStatus* status = find(statuses, c.name);
    ASSERT_NE(status, nullptr) << c.name;
    EXPECT_FALSE(status->available);
    EXPECT_THAT(status->reason, HasSubstr(c.reason));
    EXPECT_THAT(message_of(c.name), HasSubstr(c.reason));
  }
  fs::remove(pipe_folder / "libhalfstep-pipe.so");  // other tests read what lies below this folder
}

TEST(Plugins, AFolderThatIsNotThereIsToldOf) {
  for (const char* folder : {"gone", "good/libhalfstep-mock.so"}) {
    const PluginPath path{folder, "good"};
    const std::string sentence = "there is no folder " + (fs::path(HALFSTEP_TEST_PLUGINS) / folder).string() +
                                 ", which HALFSTEP_PLUGIN_PATH names";
    std::string notice;
    make_executor("mock", {}, &notice);
    EXPECT_THAT(notice, HasSubstr(sentence));
    EXPECT_EQ(missing_plugin_folders(), sentence);
    EXPECT_THAT(message_of("absent"), HasSubstr("got 'absent'; " + sentence));
  }
  const PluginPath path{"good"};
  EXPECT_EQ(missing_plugin_folders(), "");
}

TEST(Plugins, OneThatIsNotForThisMachineIsNotTakenAndNotToldOf) {
  const PluginPath path{"absent", "silent"};
  std::string notice;
  EXPECT_THAT(std::string(make_executor("auto", {}, &notice)->name()), Not(testing::AnyOf("absent", "silent")));
  EXPECT_THAT(notice, Not(testing::AnyOf(HasSubstr("absent"), HasSubstr("silent"))));
  EXPECT_THAT(message_of("absent"), HasSubstr("this machine has no mock device"));
  EXPECT_THAT(message_of("silent"), HasSubstr("is not for this machine"));
}

TEST(Plugins, TheFirstOfOneNameIsTaken) {
  const PluginPath path{"good", "other", "builtin"};
  std::string notice;
  EXPECT_EQ(make_executor("mock", {}, &notice)->name(), "mock");
  EXPECT_THAT(notice, HasSubstr("other/libhalfstep-mock.so has the name of another executor"));
  EXPECT_THAT(notice, HasSubstr("builtin/libhalfstep-onednn.so has the name of another executor"));
  EXPECT_THAT(make_executor("onednn", {})->capabilities().device, Not(HasSubstr("reference")));
}

/// Whether a library of that name is mapped into this process.
bool is_mapped(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("/" + name + ".so") != std::string::npos) return true;
  return false;
}

// In processes of their own: what is loaded stays.
TEST(PluginsDeathTest, WithoutAGpuAutoDoesNotLoadItsLibraries) {
  if (fs::exists("/dev/nvidiactl") || dlopen("libcuda.so.1", RTLD_NOW)) GTEST_SKIP() << "there may be a GPU";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto show_mapped = [] {
    for (const char* name : {"libhalfstep-cudnn", "libcudart", "libcublasLt", "libcudnn"})
      if (is_mapped(name)) std::fprintf(stderr, "%s ", name);
    std::exit(0);
  };
  EXPECT_EXIT((make_executor("auto", {}), show_mapped()), testing::ExitedWithCode(0), "^$");
  const std::vector<std::string> names = executor_names();
  if (std::ranges::find(names, "cudnn") == names.end()) GTEST_SKIP() << "the plug-in is not built";
  EXPECT_EXIT((executor_statuses(), show_mapped()), testing::ExitedWithCode(0), "libhalfstep-cudnn libcudart");
}

TEST(Plugins, BringOperators) {
  const PluginPath path{"good"};
  const auto mock = make_executor("mock", {});
  const OpDef* row = find_op("Triple", "com.example");
  ASSERT_NE(row, nullptr);
  const Graph model = parse_model(R"(<ir_version: 10, opset_import: ["": 20, "com.example": 1]>
                     m (float[2] x) => (float[2] y) { t = com.example.Triple(x)  y = Relu(t) })")
                          .graph;
  const Value& y = model[model.outputs[0]];
  EXPECT_EQ(y.dtype, DType::f32);
  EXPECT_EQ(y.shape, (Shape{2}));
  const auto onednn = make_executor("onednn", {});
  for (Executor* executor : {mock.get(), onednn.get()}) {
    const Graph graph = run_pipeline(model, whole_pipeline(Purpose::inference, {}, executor->capabilities()));
    const auto store = executor->make_store();
    const auto program = executor->compile(graph, *store);
    Tensor x = program->input(0);
    x.data<float>()[0] = 2;
    x.data<float>()[1] = -1;
    program->run();
    const Tensor found = program->output(0);
    EXPECT_EQ(found.data<float>()[0], 6);
    EXPECT_EQ(found.data<float>()[1], 0);
  }
  EXPECT_THROW(parse_model(R"(<ir_version: 10, opset_import: ["": 20, "com.example": 1]>
                              m (float[2] x) => (float[2] y) { y = com.example.Triple(x, x) })"),
               Error);
}

TEST(Plugins, AnOperatorHasOnePlugin) {
  const PluginPath path{"good", "rival"};
  std::string notice;
  EXPECT_EQ(make_executor("auto", {}, &notice)->name(), "mock");
  EXPECT_THAT(notice, HasSubstr("operators that no other plug-in brings"));
  EXPECT_THAT(notice, HasSubstr("com.example.Triple"));
  EXPECT_EQ(make_executor("mock", {})->name(), "mock");
}

}  // namespace
}  // namespace halfstep
