// Executors of one process on several devices. CUDA is emulated: a stream takes work of threads whose device is its
// own, and memory is of the device on which it was allocated.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/support/error_of.h"
#include "tests/training/deep_model.h"
#include <halfstep/session/session.h>
#include <halfstep/training/trainer.h>

namespace halfstep::cudnn {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Devices : public testing::Test {
 protected:
  Devices() { emulation::machine().devices = 3; }
  ~Devices() override {
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_EQ(emulation::used_memory(), 0u);
    EXPECT_STREQ(emulation::latest_refusal(), "");
    emulation::set_this_device(0);
    emulation::machine() = {};
  }
};

std::unique_ptr<Executor> executor_on(const std::string& device) {
  return emulated_executor(Values::shared, {.device = device});
}

constexpr std::int64_t kRows = 10, kSide = 8;

std::vector<float> losses_on(Executor& executor, std::uint64_t seed) {
  Tensor x(DType::f32, {kRows, 3, kSide, kSide}), y(DType::i64, {kRows});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i * 37 % 101) / 100;
  for (std::int64_t i = 0; i < kRows; ++i) y.data<std::int64_t>()[i] = i % 8;
  Trainer trainer(test::deep_model(kSide), executor, {DataArray::of(x, "x"), DataArray::of(y, "y")},
                  {.precision = Precision::fp32, .epochs = 2, .batch_size = 4, .seed = seed});
  std::vector<float> losses;
  trainer.fit({.on_step = [&](const StepResult& result) { losses.push_back(result.loss); }});
  return losses;
}

/// Threads start at the first device, on which one for another makes no context.
TEST_F(Devices, AreThoseOfTheirThreads) {
  std::vector<std::vector<float>> alone, together(3);
  for (std::uint64_t i = 0; i < 3; ++i) alone.push_back(losses_on(*executor_on("cuda:0"), i));
  for (const std::uint32_t seed : {0U, 1U}) {
    emulation::machine().seed = seed;
    emulation::contexts();
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 3; ++i)
      threads.emplace_back([&, i] {
        const auto executor = executor_on(fmt::format("cuda:{}", 1 + i % 2));
        together[i] = losses_on(*executor, i);
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(together, alone);
    EXPECT_EQ(emulation::contexts(), (std::set<int>{1, 2}));
  }
}

/// One thread, two sessions; then each is ended in a thread that has called nothing.
TEST_F(Devices, TakeTurnsInOneThread) {
  const LoadedModel model = test::deep_model(kSide);
  Tensor x(DType::f32, {2, 3, kSide, kSide});
  for (std::int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = static_cast<float>(i % 17) / 16;
  std::vector<std::unique_ptr<Executor>> executors;
  std::vector<std::unique_ptr<Session>> sessions;
  emulation::contexts();
  for (const char* device : {"cuda:1", "cuda:2"}) {
    executors.push_back(executor_on(device));
    sessions.push_back(std::make_unique<Session>(model.graph, *executors.back(), SessionOptions{}));
  }
  const auto run = [&](std::size_t i) {
    const NamedTensors outputs = sessions[i]->run({{"x", x}});
    const auto values = outputs.begin()->second.span<float>();
    return std::vector<float>(values.begin(), values.end());
  };
  const std::vector<float> first = run(0);
  for (int step = 0; step < 4; ++step)
    for (const std::size_t i : {1, 0}) EXPECT_EQ(run(i), first);
  for (const std::size_t i : {0, 1})
    std::thread([&] {
      sessions[i].reset();
      executors[i].reset();
    }).join();
  EXPECT_EQ(emulation::contexts(), (std::set<int>{1, 2}));
}

TEST_F(Devices, HaveStatesOfTheirOwn) {
  const auto one = executor_on("cuda:1"), other = executor_on("cuda:2");
  const auto store = one->make_store();
  EXPECT_THAT(error_of([&] { other->compile(test::deep_model(kSide).graph, *store); }),
              HasSubstr("another executor's"));
}

TEST_F(Devices, AreNamedByNumberAndUuid) {
  const std::vector<DeviceStatus> all = devices(runtime_detection_api());
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[1].id, "cuda:1");
  EXPECT_EQ(all[1].uuid, "GPU-e0000000-0000-0000-0000-000000000001");
  EXPECT_EQ(all[1].name, "Emulated GPU");
  EXPECT_EQ(all[1].memory, emulation::machine().memory);
  EXPECT_THAT(all[1].features, testing::Contains("compute capability 9.0"));
  EXPECT_EQ(executor_on("")->capabilities().device, "Emulated GPU (cuda:0)");
  EXPECT_EQ(executor_on("cuda:2")->capabilities().device, "Emulated GPU (cuda:2)");
  EXPECT_EQ(executor_on(all[1].uuid)->capabilities().device, "Emulated GPU (cuda:1)");
}

TEST_F(Devices, ThatAreNotThereAreRefusedWithThoseThatAre) {
  for (const char* wanted : {"cuda:3", "cuda:-1", "1", "cuda", "GPU-e0000000-0000-0000-0000-000000000003"}) {
    std::string reason;
    EXPECT_FALSE(open_backend(runtime_detection_api(), {.device = wanted}, reason)) << wanted;
    EXPECT_THAT(reason, AllOf(HasSubstr("CUDA shows cuda:0 (Emulated GPU, GPU-e0"), HasSubstr("cuda:2 (Emulated GPU")));
  }
}

}  // namespace
}  // namespace halfstep::cudnn
