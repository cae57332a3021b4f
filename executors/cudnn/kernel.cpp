#include "executors/cudnn/kernel.h"

#include "executors/cudnn/device.h"

namespace halfstep::cudnn {

const Libraries& libraries(const KernelContext& context) {
  return static_cast<const GpuDevice&>(context.device()).libraries();
}

Made on_device(KernelContext& context, DeviceKernel kernel) {
  const Node& node = context.node();
  std::vector<core::Operand> in, out;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) in.push_back(context.read(i, core::Layout()));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const int over = i < kernel.overwrites.size() ? kernel.overwrites[i] : -1;
    out.push_back(over < 0 ? context.write(i, core::Layout()) : context.write_over(i, in[over]));
  }
  const core::BufferId scratch = context.scratch(kernel.scratch_bytes);
  const cudaStream_t stream = libraries(context).stream.get();
  return {kernel.name, kernel.remark,
          [=, launch = kernel.launch, bind = kernel.bind](const core::Memory& memory) -> core::Run {
            Launch to{stream, {}, {}, memory.at(scratch)};
            for (const core::Operand& operand : in) to.in.push_back(memory.at(operand));
            for (const core::Operand& operand : out) to.out.push_back(memory.at(operand));
            if (bind) return bind(to);
            return [launch, to] { launch(to); };
          }};
}

}  // namespace halfstep::cudnn
