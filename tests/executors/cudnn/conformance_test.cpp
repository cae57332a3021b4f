// The executor on the emulated machine keeps what is promised of programs and trains as the reference executor does.
// `halfstep check` has the operators, too (ctest's sweep).
#include "tests/executors/cudnn/emulated_executor.h"
#include <halfstep/conformance/gtest.h>

namespace halfstep::cudnn {
namespace {

TEST(Conformance, KeepsWhatIsPromisedOfPrograms) { expect_conformance(*emulated_executor(), "program"); }

TEST(Conformance, TrainsAsTheReferenceExecutorDoes) { expect_conformance(*emulated_executor(), "training"); }

}  // namespace
}  // namespace halfstep::cudnn
