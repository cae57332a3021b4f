// Every way there can be no GPU is a sentence of its own, and what is found is told to the passes.
#include "executors/cudnn/detection.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace halfstep::cudnn {
namespace {

using testing::Contains;
using testing::HasSubstr;

/// What the faked driver answers.
struct Answers {
  int driver = 13000, runtime = 13000, count = 1;
  cudaError_t counted = cudaSuccess, asked = cudaSuccess;
  int major = 9, minor = 0;
  int mig = -1, silent = -1;  ///< of which number
};
Answers answers;

DetectionApi fake(const Answers& a) {
  answers = a;
  return {
      [](int* v) { return *v = answers.driver, cudaSuccess; },
      [](int* v) { return *v = answers.runtime, cudaSuccess; },
      [](int* n) { return *n = answers.count, answers.counted; },
      [](cudaDeviceProp* p, int id) {
        *p = {};
        std::strcpy(p->name, "Fake");
        p->major = answers.major;
        p->minor = answers.minor;
        p->totalGlobalMem = std::size_t{8} << 30;
        p->multiProcessorCount = 4;
        p->uuid.bytes[15] = static_cast<char>(id);
        std::strcat(p->name, id == answers.mig ? " MIG 1g.10gb" : "");
        return id == answers.silent ? cudaErrorUnknown : answers.asked;
      },
  };
}

struct Refused {
  const char* name;
  Answers answers;
  const char* sentence;
};
void PrintTo(const Refused& r, std::ostream* os) { *os << r.name; }

class NoDeviceTest : public testing::TestWithParam<Refused> {};

TEST_P(NoDeviceTest, SaysWhy) {
  const auto found = detect(fake(GetParam().answers), 75);
  ASSERT_TRUE(std::holds_alternative<NoDevice>(found));
  EXPECT_THAT(std::get<NoDevice>(found).reason, HasSubstr(GetParam().sentence));
}

INSTANTIATE_TEST_SUITE_P(
    , NoDeviceTest,
    testing::Values(Refused{"no_driver", {.driver = 0}, "No NVIDIA driver is installed"},
                    Refused{"driver_too_old",
                            {.driver = 12020},
                            "too old: it supports CUDA 12.2, and halfstep was built with CUDA 13.0"},
                    Refused{"driver_says_too_old", {.counted = cudaErrorInsufficientDriver}, "driver is too old"},
                    Refused{"no_gpu", {.count = 0, .counted = cudaErrorNoDevice}, "it shows no GPU"},
                    Refused{"zero_gpus", {.count = 0}, "it shows no GPU"},
                    Refused{"mig_without_instance", {.counted = cudaErrorNoDevice}, "Where MIG is on"},
                    Refused{"no_fabric_manager", {.counted = cudaErrorSystemNotReady}, "nvidia-fabricmanager"},
                    Refused{"half_updated_driver",
                            {.counted = cudaErrorSystemDriverMismatch},
                            "kernel module and its libraries are of different versions"},
                    Refused{"silent_driver", {.counted = cudaErrorUnknown}, "cudaGetDeviceCount returned"},
                    Refused{"silent_gpu", {.asked = cudaErrorUnknown}, "cudaGetDeviceProperties returned"},
                    Refused{"too_weak",
                            {.major = 6, .minor = 1},
                            "Fake has compute capability 6.1, and halfstep was built for 7.5"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(Detection, ADriverOfTheSameMajorVersionIsNewEnough) {
  EXPECT_TRUE(std::holds_alternative<Device>(detect(fake({.driver = 13000, .runtime = 13020}), 75)));
}

TEST(Detection, TellsNameCapabilityAndMemory) {
  const auto found = detect(fake({.major = 8, .minor = 6}), 75);
  ASSERT_TRUE(std::holds_alternative<Device>(found));
  const Device& d = std::get<Device>(found);
  EXPECT_EQ(d.name, "Fake");
  EXPECT_EQ(d.capability(), 86);
  EXPECT_EQ(d.memory, std::size_t{8} << 30);
}

/// The number that is chosen, or the reason why none is.
std::string chosen(const Answers& a, std::string_view wanted, int local_rank = 0) {
  const auto found = detect(fake(a), 75, wanted, local_rank);
  if (const auto* none = std::get_if<NoDevice>(&found)) return none->reason;
  return std::to_string(std::get<Device>(found).id);
}

TEST(Detection, TakesTheDeviceThatIsNamed) {
  EXPECT_EQ(chosen({.count = 2}, ""), "0");
  EXPECT_EQ(chosen({.count = 2}, "cuda:1"), "1");
  EXPECT_EQ(chosen({.count = 2}, "GPU-00000000-0000-0000-0000-000000000001"), "1");
  EXPECT_EQ(chosen({.count = 1}, "cuda:1"), "CUDA shows cuda:0 (Fake, GPU-00000000-0000-0000-0000-000000000000)");
}

TEST(Detection, TakesThatOfTheRankOnItsMachine) {
  EXPECT_EQ(chosen({.count = 2}, "", 1), "1");
  EXPECT_EQ(chosen({.count = 2}, "", 3), "1") << "ranks share GPUs where there are fewer";
  EXPECT_EQ(chosen({.count = 1}, "", 1), "0") << "where the launcher shows each rank its own";
  EXPECT_EQ(chosen({.count = 2}, "cuda:0", 1), "0");
}

TEST(Detection, SaysHowMigInstancesAreNamed) {
  const Answers mig{.mig = 0};
  EXPECT_EQ(chosen(mig, "MIG-00000000-0000-0000-0000-000000000000"), "0");
  for (const char* wanted : {"cuda:1", "MIG-00000000-0000-0000-0000-000000000001"})
    EXPECT_THAT(chosen(mig, wanted),
                testing::AllOf(HasSubstr("cuda:0 (Fake MIG 1g.10gb, MIG-0"), HasSubstr("CUDA_VISIBLE_DEVICES")));
  EXPECT_THAT(chosen({}, "MIG-1"), HasSubstr("CUDA_VISIBLE_DEVICES"));
}

TEST(Detection, ADeviceThatDoesNotAnswerIsNoLossOfTheOthers) {
  const Answers half{.count = 2, .silent = 1};
  EXPECT_EQ(chosen(half, ""), "0");
  EXPECT_THAT(chosen(half, "cuda:1"), HasSubstr("The GPU cuda:1 does not answer"));
  const std::vector<DeviceStatus> all = all_devices(fake(half), 75);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].reason, "");
  EXPECT_THAT(all[1].reason, HasSubstr("does not answer"));
}

struct Expected {
  int major, minor;
  bool f16, bf16;
  DType automatic;
};

class CapabilitiesTest : public testing::TestWithParam<Expected> {};

TEST_P(CapabilitiesTest, FollowsTheComputeCapability) {
  const Expected e = GetParam();
  const Capabilities c = capabilities_of({.name = "Fake", .major = e.major, .minor = e.minor, .memory = 1});
  EXPECT_TRUE(c.is_native(OpClass::matmul, DType::f32));
  EXPECT_EQ(c.is_native(OpClass::convolution, DType::f16), e.f16);
  EXPECT_EQ(c.is_native(OpClass::convolution, DType::bf16), e.bf16);
  EXPECT_EQ(c.auto_precision, e.automatic);
  EXPECT_THAT(c.auto_reason, HasSubstr("Fake"));
  EXPECT_THAT(c.fusions, Contains(testing::Field(&Fusion::fused, "FusedGemm")));
}

INSTANTIATE_TEST_SUITE_P(, CapabilitiesTest,
                         testing::Values(Expected{6, 1, false, false, DType::f32},
                                         Expected{7, 0, true, false, DType::f16},
                                         Expected{7, 5, true, false, DType::f16},
                                         Expected{8, 0, true, true, DType::f16},
                                         Expected{12, 0, true, true, DType::f16}));

}  // namespace
}  // namespace halfstep::cudnn
