// Kernels' text run by the host: what it computes, and what it finds that a device would not forgive.
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/generated.h"
#include <halfstep/base/error.h>
#include <halfstep/base/half.h>

namespace emulation {
namespace {

using testing::HasSubstr;

class EmulatedKernels : public testing::Test {
 protected:
  ~EmulatedKernels() override {
    machine() = {};
    latest_refusal();
  }
};

class DeviceArray {
 public:
  explicit DeviceArray(std::size_t bytes) { cudaMalloc(&p_, bytes); }
  ~DeviceArray() { cudaFree(p_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  void* data() const { return p_; }

 private:
  void* p_ = nullptr;
};

void launch(const std::string& body, const void* p, unsigned blocks, unsigned threads) {
  const char* begin =
      "struct alignas(16) Four { float at[4]; };\nstruct Probe { float* p; };\n"
      "extern \"C\" __global__ void probe(const __grid_constant__ Probe a) {\n";
  load_on_host({"probe", "Probe", begin + body + "\n}\n"})
      ->launch(blocks, threads, halfstep::cudnn::as_argument(p), nullptr);
  cudaDeviceSynchronize();
}

/// A kernel over an array in device memory.
std::vector<float> run_text(const std::string& body, std::vector<float> values, unsigned blocks, unsigned threads) {
  const std::size_t bytes = values.size() * sizeof(float);
  const DeviceArray array(bytes);
  cudaMemcpy(array.data(), values.data(), bytes, cudaMemcpyHostToDevice);
  launch(body, array.data(), blocks, threads);
  cudaMemcpy(values.data(), array.data(), bytes, cudaMemcpyDeviceToHost);
  return values;
}

template <class F>
std::string refusal_of(const F& f) {
  try {
    f();
  } catch (const halfstep::Error& e) {
    return e.found();
  }
  return "";
}
/// What is found in a kernel over 128 numbers; the same in every order of its threads.
std::string fault(const std::string& body, unsigned blocks, unsigned threads) {
  std::string found;
  for (const std::uint32_t seed : {0U, 1U, 2U}) {
    machine().seed = seed;
    const std::string now = refusal_of([&] { run_text(body, std::vector<float>(128), blocks, threads); });
    if (seed > 0) {
      EXPECT_EQ(now.empty(), found.empty()) << now << found;
    }
    found = now;
  }
  return found;
}

constexpr const char* kSum =
    "float x = a.p[threadIdx.x];\nfor (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);\n"
    "a.p[threadIdx.x] = x;";

/// The values of a row of threads, reversed over shared memory.
std::string reversal(const char* barrier) {
  return std::string("__shared__ float s[64]; const unsigned t = threadIdx.x, at = blockIdx.x * blockDim.x;\n") +
         "s[t] = a.p[at + t];\n" + barrier + "\na.p[at + t] = s[blockDim.x - 1 - t];\n__syncthreads();";
}

TEST_F(EmulatedKernels, HaveBlocksWithSharedMemoryAndBarriers) {
  std::vector<float> values(128), wanted(128);
  for (std::size_t i = 0; i < 128; ++i) {
    values[i] = static_cast<float>(i);
    wanted[i / 64 * 64 + 63 - i % 64] = static_cast<float>(i);
  }
  for (const std::uint32_t seed : {0U, 1U, 2U}) {
    machine().seed = seed;
    EXPECT_EQ(run_text(reversal("__syncthreads();"), values, 2, 64), wanted);
  }
}

TEST_F(EmulatedKernels, ShuffleInWarps) {
  std::vector<float> values(64);
  for (std::size_t i = 0; i < 64; ++i) values[i] = static_cast<float>(i % 32 + i / 32 * 100);
  for (const std::uint32_t seed : {0U, 5U}) {
    machine().seed = seed;
    const std::vector<float> found = run_text(kSum, values, 1, 64);
    for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(found[i], i < 32 ? 496.0F : 3696.0F);
  }
}

TEST_F(EmulatedKernels, HaveSoMuchSharedMemory) {
  const auto run = [](int floats) {
    const int last = floats - 1;
    const std::string text =
        "struct Last { int i; };\nextern \"C\" __global__ void k(const __grid_constant__ Last a) {\n"
        "  __shared__ float s[" +
        std::to_string(floats) +
        "];\n"
        "  s[a.i] = 1;\n  __syncthreads();\n  if (s[a.i] == 2) __syncthreads();\n}\n";
    load_on_host({"k", "Last", text})->launch(1, 1, halfstep::cudnn::as_argument(last), nullptr);
    cudaDeviceSynchronize();
  };
  EXPECT_NO_THROW(run(12 << 10));
  EXPECT_THROW(run((12 << 10) + 1), halfstep::Error);
}

TEST_F(EmulatedKernels, ConvertHalvesAsTheLibraryDoes) {
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

// What is found. ------------------------------------------------------------------------------------------------------

TEST_F(EmulatedKernels, NeedABarrierBetweenWritingAndReading) {
  EXPECT_EQ(fault(reversal("__syncthreads();"), 2, 64), "");
  EXPECT_THAT(fault(reversal(""), 2, 64), HasSubstr("of shared memory, which"));
  EXPECT_EQ(fault(reversal("__syncwarp();"), 2, 32), "");
  EXPECT_THAT(fault(reversal("__syncwarp();"), 2, 64), HasSubstr("with no barrier between")) << "of two warps";
  EXPECT_THAT(fault(reversal("a.p[at + t] = __shfl_xor_sync(0xffffffffu, s[t], 1);"), 2, 32),
              HasSubstr("with no barrier between"))
      << "a shuffle orders no memory";
}

TEST_F(EmulatedKernels, NeedABarrierBetweenReadingAndWriting) {
  const auto twice = [](const char* barrier) {
    return "__shared__ float s[64]; const unsigned t = threadIdx.x; float sum = 0;\n"
           "for (int i = 0; i < 2; ++i) {\n" +
           std::string(barrier) + "s[t] = 1;\n__syncthreads();\nsum += s[(t + 40) % 64];\n}\na.p[t] = sum;";
  };
  EXPECT_EQ(fault(twice("__syncthreads();"), 1, 64), "");
  EXPECT_THAT(fault(twice(""), 1, 64), testing::AnyOf(HasSubstr("writes"), HasSubstr("reads")));
}

TEST_F(EmulatedKernels, NeedAtomicsBetweenBlocks) {
  EXPECT_EQ(fault("a.p[blockIdx.x] += 1;", 4, 1), "");
  EXPECT_THAT(fault("a.p[0] += 1;", 4, 1), HasSubstr("byte 0 of an allocation of 512, which another block wrote"));
  EXPECT_THAT(fault("if (blockIdx.x == 0) a.p[5] = a.p[6]; else a.p[6] = 1;", 2, 1),
              HasSubstr("writes byte 24 of an allocation of 512, which another block read"));
  EXPECT_EQ(fault("a.p[1 + blockIdx.x] = atomicAdd(a.p, 1.0f);", 4, 1), "");
  EXPECT_THAT(fault("if (blockIdx.x == 2) a.p[1] = a.p[0]; else atomicAdd(a.p, 1.0f);", 4, 1),
              HasSubstr("changed atomically"));
}

TEST_F(EmulatedKernels, NeedAnOwnerOfWhatIsWritten) {
  EXPECT_THAT(fault("a.p[threadIdx.x / 2] = 1;", 1, 8), HasSubstr("which thread 0 wrote"));
  EXPECT_EQ(fault("if (threadIdx.x % 2 == 0) a.p[threadIdx.x / 2] = 1;", 1, 8), "");
  const std::string halves = "reinterpret_cast<unsigned short*>(a.p)[threadIdx.x] = 1;";
  EXPECT_EQ(fault(halves, 1, 8), "") << "two halves of a word";
}

TEST_F(EmulatedKernels, ReadSharedMemoryThatTheBlockWrote) {
  const std::string body =
      "__shared__ float s[64]; if (blockIdx.x == 0) s[threadIdx.x] = 1;\n__syncthreads();\n"
      "a.p[64 * blockIdx.x + threadIdx.x] = s[63 - threadIdx.x];";
  EXPECT_EQ(fault(body, 1, 64), "");
  EXPECT_THAT(fault(body, 2, 64), HasSubstr("of shared memory, which none of the block wrote"));
}

TEST_F(EmulatedKernels, StayWithinAllocations) {
  EXPECT_EQ(fault("a.p[0] = a.p[127];", 1, 1), "");
  EXPECT_THAT(fault("a.p[0] = a.p[128];", 1, 1), HasSubstr("reads"));
  EXPECT_THAT(fault("a.p[128] = a.p[0];", 1, 1), HasSubstr("0 bytes behind an allocation of 512"));
  EXPECT_EQ(fault("float sum = 0; float own[4]; for (int i = 0; i < 4; ++i) own[i] = a.p[i];\n"
                  "for (int i = 0; i < 4; ++i) sum += own[(int)own[i]]; a.p[threadIdx.x] = sum;",
                  1, 1),
            "");
  const std::vector<float> host(8);
  EXPECT_THAT(refusal_of([&] { launch("float x = a.p[1]; if (x != 0) __syncthreads();", host.data(), 1, 1); }),
              HasSubstr("no memory of the device"));
  const void* freed = DeviceArray(64).data();
  EXPECT_THAT(refusal_of([&] { launch("a.p[1] = 1;", freed, 1, 1); }), HasSubstr("no memory of the device"));
}

TEST_F(EmulatedKernels, AlignWhatTheyMoveAtOnce) {
  const auto copy = [](int first) {
    return "const Four x = *reinterpret_cast<const Four*>(a.p + " + std::to_string(first) +
           "); *reinterpret_cast<Four*>(a.p + 64) = x;";
  };
  EXPECT_EQ(fault(copy(4), 1, 1), "");
  EXPECT_THAT(fault(copy(2), 1, 1), HasSubstr("an address that is no multiple"));
}

TEST_F(EmulatedKernels, StayWithinArrays) {
  const auto fourth = [](int count) {
    return "__shared__ float s[4]; for (int i = 0; i < " + std::to_string(count) + "; ++i) s[i] = 1; a.p[0] = s[3];";
  };
  EXPECT_EQ(fault(fourth(4), 1, 1), "");
  EXPECT_THAT(fault(fourth(5), 1, 1), HasSubstr("indexes what is not in an array"));
}

TEST_F(EmulatedKernels, ComputeNumbersThatAreDefined) {
  const char* const undefined[] = {"(int)threadIdx.x + 0x7fffffff", "1 << (31 + (int)threadIdx.x)",
                                   "1 / (1 - (int)threadIdx.x)", "(int)(3e9f * (float)threadIdx.x)"};
  for (const std::string expression : undefined) {
    EXPECT_EQ(fault("a.p[threadIdx.x] = (float)(" + expression + ");", 1, 1), "") << expression;
    EXPECT_THAT(fault("a.p[threadIdx.x] = (float)(" + expression + ");", 1, 2), HasSubstr("thread 1 of block 0"))
        << expression;
  }
}

TEST_F(EmulatedKernels, MeetAtOneBarrier) {
  EXPECT_THAT(fault("if (threadIdx.x < 8) __syncwarp(); else while (a.p[0] == 0) __syncthreads();", 1, 32),
              HasSubstr("a barrier that some threads never reach"));
  EXPECT_THAT(fault("if (threadIdx.x < 8)\n__syncthreads();\nelse\n__syncthreads();", 1, 32),
              HasSubstr("two barriers, in lines 5 and 7"));
}

TEST_F(EmulatedKernels, ShuffleAmongLanesThatAreThere) {
  EXPECT_EQ(fault(kSum, 1, 32), "");
  EXPECT_THAT(fault(kSum, 1, 16), HasSubstr("a lane that is not there"));
  EXPECT_THAT(fault(std::string("if (threadIdx.x == 20) return;\n") + kSum, 1, 32),
              HasSubstr("a lane that is not there"));
}

}  // namespace
}  // namespace emulation
