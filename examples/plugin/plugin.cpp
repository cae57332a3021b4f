// An executor in a shared library: f32 kernels for Relu and Swish; halfstep runs the other operators.
#include "example.h"
#include <halfstep/executors/core/plugin.h>

using namespace halfstep;

namespace example {
namespace {

// Creates a kernel that computes y = f(x) elementwise, in place if nothing else reads x.
template <class F>
core::Made elementwise(core::KernelContext& context, F f) {
  if (context.in(0).dtype != DType::f32) return core::refuse("operands that are not f32");
  const core::Operand x = context.read(0, core::Layout()), y = context.write_over(0, x);
  return {"example", {}, [=](const core::Memory& memory) -> core::Run {
            return [f, from = memory.as<const float>(x), to = memory.as<float>(y), n = x.stored()] {
              for (std::int64_t i = 0; i < n; ++i) to[i] = f(from[i]);
            };
          }};
}

core::Made make_relu(core::KernelContext& context) {
  return elementwise(context, [](float x) { return x < 0 ? 0 : x; });  // keeps NaN
}

core::Made make_swish(core::KernelContext& context) {
  const double beta = context.node().attributes.get_float("beta", 1);
  return elementwise(context, [beta](float x) { return static_cast<float>(swish(x, beta)); });
}

// It is always available but slower than oneDNN, so it is only used if selected by name.
int score(std::string&) { return kOnednnScore / 2; }

std::optional<core::Backend> open(const ExecutorOptions&, std::string&) {
  Capabilities capabilities;
  capabilities.device = "example (one CPU thread)";
  capabilities.native = {{OpClass::elementwise, DType::f32}};
  capabilities.auto_reason = "its kernels are for f32";
  return core::Backend{"example", capabilities, {{"Relu", "", {make_relu}}, {"Swish", "com.example", {make_swish}}}};
}

}  // namespace
}  // namespace example

HALFSTEP_PLUGIN(example::score, example::open)

const halfstep::OpDef* halfstep_operators(std::size_t* count) {
  *count = example::operators().size();
  return example::operators().data();
}
