#include "executors/onednn/device.h"

#include "executors/onednn/fusion.h"
#include "executors/onednn/kernel.h"
#include "executors/onednn/math_mode.h"
#include "executors/onednn/reorder.h"
#include "executors/onednn/signals.h"
#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/threads.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {

bool CpuDevice::knows(const Layout& layout, const Shape& shape, DType dtype) const {
  return data_type(dtype) != DataType::undef && desc_of(layout, shape, dtype).get(true) != nullptr;
}

void CpuDevice::move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) {
  reorder_now(shape, dtype, from.data, from.layout, to.data, to.layout);
}

Made CpuDevice::convert(const Operand& from, const Operand& to, const core::TakeScratch& scratch) {
  if (from.layout != to.layout) {
    const Dims& dims = from.layout.is_row_major() ? to.layout.dims() : from.layout.dims();
    return make_move({desc_of(from, dims), from.buffer}, {desc_of(to, dims), to.buffer}, scratch);
  }
  if (from.dtype == to.dtype) return Device::convert(from, to, scratch);
  return {"simd", {}, [from, to](const Memory& memory) -> Run {
            return [cast = simd::find_cast(from.dtype, to.dtype), x = memory.at(from), y = memory.at(to),
                    n = from.stored()] { cast(x, y, n); };
          }};
}

Run CpuDevice::sequence(const std::vector<Run>& steps, const std::vector<bool>& on_device,
                        std::vector<std::string>& notes) {
  if (tuner_) {
    tuner_->save();
    if (!tuner_->notice().empty()) notes.push_back("measured choices hold for this run alone: " + tuner_->notice());
  }
  return Device::sequence(steps, on_device, notes);
}

void CpuDevice::within(const std::function<void()>& work) {
  const ThreadScope scope(threads_);
  const Fp32MathScope math(fp32_math_);
  const TunerScope tuner(tuner_.get());
  try {
    work();
  } catch (const dnnl::error& e) {
    throw_failure("oneDNN to make every primitive it offers", e.what(), "try --executor reference");
  }
}

void CpuDevice::running(const std::function<void()>& work) {
  within([&] {
    const SignalsPostponed signals(threads_);
    work();
  });
}

std::vector<std::pair<std::size_t, std::size_t>> CpuDevice::precedences(const Graph& graph) {
  return bias_gradient_pairs(graph);
}

}  // namespace halfstep::onednn
