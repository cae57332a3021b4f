#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/fusion_checks.h"

namespace halfstep::cudnn {
namespace {

TEST(CudnnFusions, ComputeWhatTheirPartsCompute) { testing::fusions::expect_all_forward(*emulated_executor()); }

TEST(CudnnFusions, AreTrainedThrough) {
  testing::fusions::expect_all_trained(*emulated_executor(), DType::f32, 1e-4);
  testing::fusions::expect_all_trained(*emulated_executor(), DType::f16, 4 * testing::epsilon_of(DType::f16));
}

}  // namespace
}  // namespace halfstep::cudnn
