// FusedAttention and its gradient on the emulated device against the reference kernels.
#include <gmock/gmock.h>

#include "tests/executors/attention_cases.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

using namespace halfstep::testing;
using ::testing::StartsWith;

struct AttentionInstance {
  AttentionCase form;
  DType dtype;
  bool can_plan = true;  ///< cuDNN's graph API finds engines

  /// cuDNN takes half precision, and rows that begin at whole 16 bytes.
  bool is_planned() const { return can_plan && dtype != DType::f32 && form.head % 8 == 0; }
};

std::vector<AttentionInstance> instances() {
  std::vector<AttentionInstance> all;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const AttentionCase& each : kAttentionCases) {
      all.push_back({each, dtype});
      if (all.back().is_planned()) all.push_back({each, dtype, false});
    }
  // Tiles of a warp's two rows, and of its one.
  all.push_back({{"wide", Lies::apart, 1, 1, 9, 40, 192, true, true}, DType::f32});
  all.push_back({{"very wide", Lies::grouped, 1, 1, 5, 7, 512}, DType::f16, false});
  return all;
}
void PrintTo(const AttentionInstance& i, std::ostream* os) {
  *os << i.form.what << " in " << name_of(i.dtype) << (i.can_plan ? "" : ", without plans");
}

class CudnnAttention : public ::testing::TestWithParam<AttentionInstance> {
 protected:
  ~CudnnAttention() override { emulation::machine().can_plan = true; }
};

class CudnnAttentionFaults : public ::testing::Test {
 protected:
  ~CudnnAttentionFaults() override { emulation::machine() = {}; }
};

TEST_P(CudnnAttention, AgreesWithTheReferenceBothWays) {
  const auto& [form, dtype, can_plan] = GetParam();
  emulation::machine().can_plan = can_plan;
  const TestGraph t = attention_graph(form, dtype);
  emulation::latest_refusal();
  Compiled reference(make_reference_executor(), t.graph), own(emulated_executor(Values::separate), t.graph);
  for (std::size_t i = 0; i < t.graph.inputs.size(); ++i) {
    const Value& in = t.graph[t.graph.inputs[i]];
    const Tensor value = random_tensor(in.dtype, in.shape, static_cast<unsigned>(i) + 5);
    set_input(*reference.program, i, value);
    set_input(*own.program, i, value);
  }
  reference.program->run();
  own.program->run();
  const double tolerance = dtype == DType::f32 ? 1e-5 : 2 * epsilon_of(dtype);
  for (std::size_t i = 0; i < t.graph.outputs.size(); ++i)
    expect_close(own.program->output(i), reference.program->output(i), tolerance, "output " + std::to_string(i));
  EXPECT_STREQ(emulation::latest_refusal(), "");
  EXPECT_TRUE(emulation::guards_are_whole());
  for (const char* op : {"ai.halfstep.FusedAttention", "ai.halfstep.AttentionGrad"})
    EXPECT_THAT(plan_entry(*own.program, op).kernel,
                StartsWith(GetParam().is_planned() ? "cudnn: attention" : "generated: attention"))
        << op << plan_entry(*own.program, op).reason;
}

TEST_F(CudnnAttentionFaults, TheNextPlanIsTakenWhereOneFailsWhenItRuns) {
  const TestGraph t = attention_graph(kAttentionCases[2], DType::f16);
  emulation::machine().failing_workspace = 8192;  // the first
  Compiled reference(make_reference_executor(), t.graph), own(emulated_executor(), t.graph);
  for (std::size_t i = 0; i < t.graph.inputs.size(); ++i) {
    const Value& in = t.graph[t.graph.inputs[i]];
    const Tensor value = random_tensor(in.dtype, in.shape, static_cast<unsigned>(i) + 5);
    set_input(*reference.program, i, value);
    set_input(*own.program, i, value);
  }
  reference.program->run();
  own.program->run();
  for (std::size_t i = 0; i < t.graph.outputs.size(); ++i)
    expect_close(own.program->output(i), reference.program->output(i), 2 * epsilon_of(DType::f16),
                 "output " + std::to_string(i));
  emulation::machine().failing_workspace = 1;  // all
  EXPECT_THROW(
      {
        Compiled again(emulated_executor(), t.graph);
        again.program->run();
      },
      Error);
}

INSTANTIATE_TEST_SUITE_P(, CudnnAttention, ::testing::ValuesIn(instances()));

// What a mask of -inf hides counts for nothing, wherever it begins; a query that sees nothing is NaN.
TEST(CudnnAttentionMask, TakesMasksThatHideWholeTiles) {
  constexpr std::int64_t kQueries = 3, kKeys = 70, kHead = 4;
  FusedAttentionConfig c;
  c.queries = kQueries, c.keys = kKeys, c.head = c.value_head = kHead;
  c.q = c.k = c.v = c.y = {0, {0, 0, 0, kHead}};
  c.mask = {0, {0, 0, 0, kKeys}};
  c.mask_column = 1;
  c.y_shape = {kQueries, kHead};
  TestGraph t;
  const std::vector<Expr> in = {t.input(DType::f32, {kQueries, kHead}), t.input(DType::f32, {kKeys, kHead}),
                                t.input(DType::f32, {kKeys, kHead}), t.input(DType::f32, {kQueries, kKeys})};
  const std::vector<Expr> y = t.b.multi("FusedAttention", kOwnDomain, in, 2, c.attributes());
  t.output(y[0]);
  t.output(y[1]);
  Tensor mask(DType::f32, {kQueries, kKeys});
  constexpr std::int64_t kSeen[] = {40, 0, kKeys};  // the first key that a query sees
  for (std::int64_t i = 0; i < kQueries; ++i)
    for (std::int64_t j = 0; j < kKeys; ++j) mask.data<float>()[i * kKeys + j] = j < kSeen[i] ? -INFINITY : 0.0F;
  Compiled reference(make_reference_executor(), t.graph), own(emulated_executor(), t.graph);
  for (Program* program : {reference.program.get(), own.program.get()}) {
    for (std::size_t i = 0; i < 3; ++i)
      set_input(*program, i, random_tensor(DType::f32, t.graph[t.graph.inputs[i]].shape, static_cast<unsigned>(i)));
    set_input(*program, 3, mask);
    program->run();
  }
  for (std::size_t i = 0; i < 2; ++i)
    expect_close(own.program->output(i), reference.program->output(i), 1e-5, "output " + std::to_string(i));
  EXPECT_TRUE(std::isnan(own.program->output(0).data<float>()[2 * kHead]));
}

}  // namespace
}  // namespace halfstep::cudnn
