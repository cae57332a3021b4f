// The entry point of plug-ins: an executor, or a reason; and nothing is thrown.
#include <memory>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <halfstep/executors/core/plugin.h>

namespace halfstep::core {
namespace {

using testing::HasSubstr;

struct Opened {
  std::unique_ptr<Executor> executor;
  std::string reason;
};
Opened open(OpenBackend backend) {
  Opened opened;
  opened.executor.reset(open_plugin(backend, {.threads = 3}, opened.reason));
  return opened;
}

std::optional<Backend> working(const ExecutorOptions& options, std::string&) {
  return Backend{"with " + std::to_string(options.threads) + " threads", {}, {}};
}

TEST(Plugin, GivesAnExecutor) {
  const Opened opened = open(working);
  ASSERT_NE(opened.executor, nullptr);
  EXPECT_EQ(opened.executor->name(), "with 3 threads");
  EXPECT_EQ(opened.reason, "");
}

TEST(Plugin, OrAReason) {
  const Opened missing = open([](const ExecutorOptions&, std::string& reason) -> std::optional<Backend> {
    reason = "no device";
    return std::nullopt;
  });
  EXPECT_EQ(missing.executor, nullptr);
  EXPECT_EQ(missing.reason, "no device");

  const Opened thrown = open(
      [](const ExecutorOptions&, std::string&) -> std::optional<Backend> { throw std::runtime_error("out of luck"); });
  EXPECT_EQ(thrown.executor, nullptr);
  EXPECT_EQ(thrown.reason, "out of luck");
}

}  // namespace
}  // namespace halfstep::core
