// A plug-in whose MOCK_ definitions say what is odd about it.
#include <stdexcept>

#include <halfstep/executors/plugin.h>
#include <halfstep/ops/kernel_util.h>

#ifndef MOCK_ABI
#define MOCK_ABI halfstep::kExecutorAbi
#endif
#ifndef MOCK_DOMAIN
#define MOCK_DOMAIN "com.example"
#endif

namespace {

using namespace halfstep;

/// The reference executor by another name.
class MockExecutor final : public Executor {
 public:
  std::string_view name() const override { return MOCK_NAME; }
  const Capabilities& capabilities() const override { return reference_->capabilities(); }
  std::unique_ptr<StateStore> make_store() override { return reference_->make_store(); }
  std::unique_ptr<Program> compile(const Graph& graph, StateStore& store) override {
    return reference_->compile(graph, store);
  }

 private:
  std::unique_ptr<Executor> reference_ = make_reference_executor();
};

[[maybe_unused]] const OpDef kOperators[] = {
    {.name = "Triple",
     .domain = MOCK_DOMAIN,
     .reference =
         [](KernelCall& call) { ops::map_unary<double>(call, call.in[0].dtype(), [](double x) { return 3 * x; }); },
     .gradient = [](GradientContext& g) { return std::vector<Expr>{g.dy() * 3.0}; },
     .infer =
         [](const Node&, std::span<const TensorType> operands) {
           if (operands.size() != 1) throw_input_error("one operand", std::to_string(operands.size()), "give it one");
           return std::vector<TensorType>{operands[0]};
         }}};

}  // namespace

int halfstep_abi() { return MOCK_ABI; }

#ifdef MOCK_SCORE
int halfstep_score([[maybe_unused]] std::string* reason) {
#ifndef MOCK_SILENT
  if (MOCK_SCORE == 0) *reason = "this machine has no mock device";
#endif
  return MOCK_SCORE;
}
#endif

halfstep::Executor* halfstep_executor(const ExecutorOptions*, std::string*) {
#ifdef MOCK_THROWS
  throw std::runtime_error("the mock device is gone");
#else
  return new MockExecutor;
#endif
}

#ifdef MOCK_OPERATORS
const halfstep::OpDef* halfstep_operators(std::size_t* count) {
  *count = 1;
  return kOperators;
}
#endif
