// The plug-in as it is shipped, with NVIDIA's libraries: it loads, and says clearly what it found.
#include <memory>

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/executors/plugin.h>

namespace halfstep {
namespace {

template <class Function>
Function find(const char* name) {
  void* library = dlopen(HALFSTEP_CUDNN_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  EXPECT_NE(library, nullptr) << dlerror();
  return library ? reinterpret_cast<Function>(dlsym(library, name)) : nullptr;
}

TEST(Plugin, GivesAnExecutorOrTheReasonWhyNot) {
  const auto score = find<decltype(&halfstep_score)>("halfstep_score");
  const auto make = find<decltype(&halfstep_executor)>("halfstep_executor");
  ASSERT_NE(score, nullptr);
  ASSERT_NE(make, nullptr);
  const ExecutorOptions options;
  std::string reason, score_reason;
  const std::unique_ptr<Executor> executor(make(&options, &reason));
  if (executor) {
    EXPECT_EQ(executor->name(), "cudnn");
    EXPECT_TRUE(reason.empty()) << reason;
    EXPECT_GT(score(&score_reason), kOnednnScore);
  } else {
    EXPECT_THAT(reason, testing::AnyOf(testing::HasSubstr("No NVIDIA driver"), testing::HasSubstr("driver is too old"),
                                       testing::HasSubstr("shows no GPU"), testing::HasSubstr("does not answer"),
                                       testing::HasSubstr("has compute capability")));
    EXPECT_EQ(score(&score_reason), 0);
    EXPECT_EQ(score_reason, reason);
  }
}

TEST(Plugin, IsOfThisVersion) {
  const auto abi = find<decltype(&halfstep_abi)>("halfstep_abi");
  ASSERT_NE(abi, nullptr);
  EXPECT_EQ(abi(), kExecutorAbi);
}

}  // namespace
}  // namespace halfstep
