// Times by the device's clock. The emulated one goes on by as much as a test says.
#include "executors/cudnn/device_time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executors/cudnn/resources.h"
#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::Optional;

class DeviceTime : public testing::Test {
 protected:
  DeviceTime() {
    emulation::duration() = [](std::string_view, int number) { return number; };
  }
  ~DeviceTime() override {
    emulation::machine() = {};
    emulation::duration() = {};
    emulation::latest_refusal();
  }

  /// Work of so many microseconds; `calls` counts it.
  Attempt work(int microseconds, int* calls = nullptr) {
    return [this, microseconds, calls] {
      if (calls) ++*calls;
      emulation::submit(stream_.get(), [=] { emulation::take_time("engine", microseconds); });
      return true;
    };
  }
  static auto is(double microseconds) { return Optional(DoubleNear(microseconds * 1e-6, 1e-9)); }

  Stream stream_ = make_stream();
};

TEST_F(DeviceTime, IsThatOfOneCall) {
  for (const std::uint32_t seed : {0U, 1U, 2U})
    for (const bool can_capture : {true, false}) {
      emulation::machine().seed = seed;
      emulation::machine().can_capture = can_capture;
      EXPECT_THAT(seconds_of({work(30), work(4000), work(20)}, stream_.get()), ElementsAre(is(30), is(4000), is(20)));
    }
}

TEST_F(DeviceTime, IsOfNoneThatFails) {
  int calls = 0;
  const Attempt failing = [&] { return ++calls < 3; };
  const Attempt refused = [] { return cudaMemset(nullptr, 0, 1) == cudaSuccess; };
  EXPECT_THAT(seconds_of({refused, work(7), Attempt(), failing}, stream_.get()),
              ElementsAre(std::nullopt, is(7), std::nullopt, testing::_));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the next kernel would report it";
  emulation::machine().failing = "cudaStreamEndCapture";
  EXPECT_THAT(seconds_of({work(7)}, stream_.get()), ElementsAre(is(7)));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(DeviceTime, OfASlowOneIsNotTakenAgain) {
  int fast = 0, slow = 0;
  seconds_of({work(1000, &fast), work(9000, &slow)}, stream_.get());
  EXPECT_EQ(slow, 3) << "to load, to time, and for a graph";
  EXPECT_EQ(fast, 3) << "the graph is launched";
  emulation::machine().can_capture = false;
  fast = slow = 0;
  seconds_of({work(1000, &fast), work(9000, &slow)}, stream_.get());
  EXPECT_EQ(slow, 2);
  EXPECT_EQ(fast, 5);
}

}  // namespace
}  // namespace halfstep::cudnn
