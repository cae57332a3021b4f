#include "executors/cudnn/kernel.h"

#include <cstdint>

#include "executors/cudnn/device.h"

namespace halfstep::cudnn {
namespace {

/// Where libraries take their workspace to begin, as all that cudaMalloc gives does; an arena aligns less.
void* aligned(void* memory) { return reinterpret_cast<void*>(padded_bytes(reinterpret_cast<std::uintptr_t>(memory))); }
constexpr std::size_t kMostSkipped = padded_bytes(1);

}  // namespace

const Libraries& libraries(const KernelContext& context) {
  return static_cast<const GpuDevice&>(context.device()).libraries();
}

Made on_device(KernelContext& context, DeviceKernel kernel) {
  const Node& node = context.node();
  std::vector<core::Operand> in, out;
  const auto layout = [](const std::vector<core::Layout>& given, std::size_t i) {
    return i < given.size() ? given[i] : core::Layout();
  };
  for (std::size_t i = 0; i < node.inputs.size(); ++i) in.push_back(context.read(i, layout(kernel.in_layouts, i)));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const int over = i < kernel.overwrites.size() ? kernel.overwrites[i] : -1;
    out.push_back(over < 0 ? context.write(i, layout(kernel.out_layouts, i)) : context.write_over(i, in[over]));
  }
  const core::BufferId scratch = context.scratch(kernel.scratch_bytes ? kernel.scratch_bytes + kMostSkipped : 0);
  for (const core::BufferId kept : kernel.kept) context.touch(kept);
  const cudaStream_t stream = libraries(context).stream.get();
  return {kernel.name, kernel.remark,
          [=, launch = kernel.launch, bind = kernel.bind, kept = kernel.kept](const core::Memory& memory) -> core::Run {
            Launch to{stream, {}, {}, aligned(memory.at(scratch)), {}};
            for (const core::Operand& operand : in) to.in.push_back(memory.at(operand));
            for (const core::Operand& operand : out) to.out.push_back(memory.at(operand));
            for (const core::BufferId id : kept) to.kept.push_back(memory.at(id));
            if (bind) return bind(to);
            return [launch, to] { launch(to); };
          }};
}

}  // namespace halfstep::cudnn
