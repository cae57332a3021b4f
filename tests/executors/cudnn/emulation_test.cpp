// The emulation itself: streams' order, guards, failures.
#include "tests/executors/cudnn/emulation/emulation.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/executors/cudnn/emulation/fibers.h"
#include "tests/executors/cudnn/emulation/generated.h"
#include "tests/executors/cudnn/emulation/streams.h"
#include <halfstep/base/error.h>
#include <halfstep/base/half.h>

namespace emulation {
namespace {

class Emulation : public testing::Test {
 protected:
  ~Emulation() override {
    machine() = {};
    latest_refusal();
  }
};

cudaStream_t new_stream(unsigned flags) {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, flags);
  return stream;
}

/// The orders that pieces of work a and b are seen in over many seeds, when the second stream is waited for.
std::set<std::string> orders(unsigned first_flags, bool first_is_legacy, bool with_event) {
  std::set<std::string> seen;
  for (std::uint32_t seed = 0; seed < 64; ++seed) {
    machine().seed = seed;
    cudaStream_t first = first_is_legacy ? nullptr : new_stream(first_flags), second = new_stream(first_flags);
    std::string order;
    submit(first, [&] { order += 'a'; });
    cudaEvent_t event = nullptr;
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaEventRecord(event, first);
    if (with_event) cudaStreamWaitEvent(second, event, 0);
    submit(second, [&] { order += 'b'; });
    cudaStreamSynchronize(second);
    seen.insert(order);
    cudaDeviceSynchronize();
    cudaEventDestroy(event);
    if (first) cudaStreamDestroy(first);
    cudaStreamDestroy(second);
  }
  return seen;
}

TEST_F(Emulation, StreamsThatDoNotBlockAreInNoOrder) {
  const std::set<std::string> any = {"ab", "b", "ba"};
  EXPECT_EQ(orders(cudaStreamNonBlocking, true, false), any);
  EXPECT_EQ(orders(cudaStreamNonBlocking, false, false), any);
  EXPECT_EQ(orders(cudaStreamDefault, false, false), any);
}

TEST_F(Emulation, TheLegacyStreamAndEventsMakeOne) {
  const std::set<std::string> one = {"ab"};
  EXPECT_EQ(orders(cudaStreamDefault, true, false), one);
  EXPECT_EQ(orders(cudaStreamNonBlocking, true, true), one);
  EXPECT_EQ(orders(cudaStreamNonBlocking, false, true), one);
}

TEST_F(Emulation, SeesWhatIsWrittenBesideAnAllocation) {
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 100), cudaSuccess);
  EXPECT_TRUE(guards_are_whole());
  static_cast<char*>(p)[100] = 1;
  EXPECT_FALSE(guards_are_whole());
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_STREQ(latest_refusal(), "something was written outside of an allocation");
}

TEST_F(Emulation, RemembersAFailureUntilItIsAskedFor) {
  void* p = nullptr;
  machine().memory = 16;
  EXPECT_EQ(cudaMalloc(&p, 100), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&p, 16), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(Emulation, EndsACaptureThatACallBroke) {
  cudaStream_t stream = new_stream(cudaStreamNonBlocking);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  cudaStreamDestroy(stream);
  cudaGetLastError();
}

/// As cudaStreamCaptureModeThreadLocal has it.
TEST_F(Emulation, EndsACaptureWhoseThreadMakesACallThatIsNotSafe) {
  cudaStream_t stream = new_stream(cudaStreamNonBlocking), other = new_stream(cudaStreamNonBlocking);
  void* p = nullptr;
  cudaMalloc(&p, 16);
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  cudaEventRecord(event, other);
  const std::function<cudaError_t()> calls[] = {[&] { return cudaFree(p); },
                                                [&] { return cudaEventQuery(event); },
                                                [&] { return cudaEventSynchronize(event); },
                                                [&] { return cudaDeviceSynchronize(); },
                                                [&] { return cudaEventRecord(event, stream); },
                                                [&] { return cudaStreamWaitEvent(stream, event, 0); }};
  cudaGraph_t graph = nullptr;
  for (std::size_t i = 0; i < std::size(calls); ++i) {
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_NE(calls[i](), cudaSuccess) << i;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated) << i;
  }
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  std::thread([&] { EXPECT_EQ(cudaEventQuery(event), cudaSuccess); }).join();
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  cudaEventDestroy(event);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  for (cudaStream_t each : {stream, other}) cudaStreamDestroy(each);
  cudaGetLastError();
}

}  // namespace
}  // namespace emulation
