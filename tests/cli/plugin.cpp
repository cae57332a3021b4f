// An executor in a library of its own, for --plugin: a kernel for Relu, and bf16 where precision is left to the device.
#include <halfstep/executors/core/plugin.h>

using namespace halfstep;

static core::Made make_relu(core::KernelContext& context) {
  if (context.in(0).dtype != DType::f32) return core::refuse("Relu is taken in f32 alone");
  const core::Operand x = context.read(0, core::Layout()), y = context.write_over(0, x);
  return {"plug-in: relu", {}, [=](const core::Memory& memory) -> core::Run {
            return [from = memory.as<float>(x), to = memory.as<float>(y), n = x.stored()] {
              for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] < 0 ? 0 : from[i];
            };
          }};
}

HALFSTEP_PLUGIN([](std::string&) { return 0; },
                [](const ExecutorOptions&, std::string&) -> std::optional<core::Backend> {
                  Capabilities capabilities;
                  capabilities.auto_precision = DType::bf16;
                  capabilities.auto_reason = "a test says so";
                  return core::Backend{"bf16", capabilities, {{"Relu", kOnnxDomain, {make_relu}}}};
                })
