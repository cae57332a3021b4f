#include "tests/executors/fusion_checks.h"

namespace halfstep::testing {
namespace {

TEST(OneDnnFusions, ComputeWhatTheirPartsCompute) { fusions::expect_all_forward(*make_onednn_executor()); }

TEST(OneDnnFusions, AreTrainedThrough) {
  fusions::expect_all_trained(*make_onednn_executor(), DType::f32, 1e-4);
  fusions::expect_all_trained(*make_onednn_executor(), DType::bf16, 4 * epsilon_of(DType::bf16));
}

TEST(OneDnnFusions, ReferenceComputesWhatTheirPartsCompute) { fusions::expect_all_forward(*make_reference_executor()); }

}  // namespace
}  // namespace halfstep::testing
