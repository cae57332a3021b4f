// The emulation itself: streams' order, guards, and kernels' text run by the host.
#include "tests/executors/cudnn/emulation/emulation.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <set>
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

/// A kernel over an array in device memory, run by the host.
std::vector<float> run_text(const std::string& body, std::vector<float> values, unsigned blocks, unsigned threads) {
  const auto kernel = load_on_host(
      {"probe", "Probe",
       "struct Probe { float* p; };\nextern \"C\" __global__ void probe(const __grid_constant__ Probe a) {\n" + body +
           "\n}\n"});
  void* p = nullptr;
  const std::size_t bytes = values.size() * sizeof(float);
  cudaMalloc(&p, bytes);
  cudaStream_t stream = new_stream(cudaStreamNonBlocking);
  cudaMemcpyAsync(p, values.data(), bytes, cudaMemcpyHostToDevice, stream);
  kernel->launch(blocks, threads, halfstep::cudnn::as_argument(p), stream);
  cudaMemcpyAsync(values.data(), p, bytes, cudaMemcpyDeviceToHost, stream);
  cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
  cudaFree(p);
  return values;
}

/// The values of a row of threads, reversed over shared memory.
std::string reversal(const char* barrier) {
  return std::string("__shared__ float s[64]; const unsigned t = threadIdx.x, at = blockIdx.x * blockDim.x; ") +
         "s[t] = a.p[at + t]; " + barrier + " a.p[at + t] = s[blockDim.x - 1 - t]; __syncthreads();";
}

TEST_F(Emulation, RunsBlocksWithSharedMemoryAndBarriers) {
  std::vector<float> values(128), wanted(128);
  for (std::size_t i = 0; i < 128; ++i) {
    values[i] = static_cast<float>(i);
    wanted[i / 64 * 64 + 63 - i % 64] = static_cast<float>(i);
  }
  for (const std::uint32_t seed : {0U, 1U, 2U}) {
    machine().seed = seed;
    EXPECT_EQ(run_text(reversal("__syncthreads();"), values, 2, 64), wanted);
    EXPECT_NE(run_text(reversal(""), values, 2, 64), wanted) << "a missing barrier is not seen";
  }
}

TEST_F(Emulation, RunsShufflesOfWarps) {
  std::vector<float> values(64);
  for (std::size_t i = 0; i < 64; ++i) values[i] = static_cast<float>(i % 32 + i / 32 * 100);
  const char* sum =
      "float x = a.p[threadIdx.x]; for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d); "
      "a.p[threadIdx.x] = x;";
  for (const std::uint32_t seed : {0U, 5U}) {
    machine().seed = seed;
    const std::vector<float> found = run_text(sum, values, 1, 64);
    for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(found[i], i < 32 ? 496.0F : 3696.0F);
  }
}

TEST_F(Emulation, LimitsSharedMemory) {
  const auto run = [](int floats) {
    const int last = floats - 1;
    const std::string text =
        "struct Last { int i; };\nextern \"C\" __global__ void k(const __grid_constant__ Last a) {\n"
        "  __shared__ float s[" +
        std::to_string(floats) +
        "];\n"
        "  s[a.i] = 1;\n  __syncthreads();\n  if (s[a.i - 1] == 2) __syncthreads();\n}\n";
    load_on_host({"k", "Last", text})->launch(1, 1, halfstep::cudnn::as_argument(last), nullptr);
    cudaDeviceSynchronize();
  };
  EXPECT_NO_THROW(run(12 << 10));
  EXPECT_THROW(run((12 << 10) + 1), halfstep::Error);
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

TEST_F(Emulation, SaysThatABarrierIsNotReached) {
  run_text("if (threadIdx.x < 8) __syncwarp(); else while (a.p[0] == 0) __syncthreads();", {0, 0}, 1, 32);
  EXPECT_STREQ(latest_refusal(), "a barrier that some threads never reach");
}

TEST_F(Emulation, ConvertsHalvesAsTheLibraryDoes) {
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    halfstep::f16 h;
    h.bits = static_cast<std::uint16_t>(bits);
    const float x = static_cast<float>(h);
    if (x == x) values.insert(values.end(), {x, std::nextafter(x, 1e9F), x * 1.0003F});
  }
  const std::vector<float> found = run_text(
      "const unsigned i = blockIdx.x * blockDim.x + threadIdx.x; "
      "a.p[i] = on_host_half_to_float(on_host_float_to_half(a.p[i]));",
      values, static_cast<unsigned>(values.size()), 1);
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]),
              std::bit_cast<std::uint32_t>(static_cast<float>(halfstep::f16(values[i]))))
        << values[i];
}

}  // namespace
}  // namespace emulation
