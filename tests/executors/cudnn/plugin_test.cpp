// The plug-in as it is shipped, with NVIDIA's libraries: it loads, and says clearly what it found.
#include <memory>

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executors/executor.h"

namespace halfstep {
namespace {

ExecutorEntryPoint entry_point() {
  void* library = dlopen(HALFSTEP_CUDNN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  EXPECT_NE(library, nullptr) << dlerror();
  return library ? reinterpret_cast<ExecutorEntryPoint>(dlsym(library, kExecutorEntryPoint)) : nullptr;
}

TEST(Plugin, GivesAnExecutorOrTheReasonWhyNot) {
  const ExecutorEntryPoint entry = entry_point();
  ASSERT_NE(entry, nullptr);
  const ExecutorOptions options;
  std::string reason;
  const std::unique_ptr<Executor> executor(entry(kExecutorAbi, &options, &reason));
  if (executor) {
    EXPECT_EQ(executor->name(), "cudnn");
    EXPECT_TRUE(reason.empty()) << reason;
  } else {
    EXPECT_THAT(reason, testing::AnyOf(testing::HasSubstr("No NVIDIA driver"), testing::HasSubstr("driver is too old"),
                                       testing::HasSubstr("shows no GPU"), testing::HasSubstr("does not answer"),
                                       testing::HasSubstr("has compute capability")));
  }
}

TEST(Plugin, RefusesAnotherVersionOfTheInterface) {
  const ExecutorEntryPoint entry = entry_point();
  ASSERT_NE(entry, nullptr);
  const ExecutorOptions options;
  std::string reason;
  EXPECT_EQ(entry(kExecutorAbi + 1, &options, &reason), nullptr);
  EXPECT_THAT(reason, testing::HasSubstr("build both together"));
}

}  // namespace
}  // namespace halfstep
