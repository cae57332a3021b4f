#include "executors/onednn/device.h"

#include "executors/onednn/fusion.h"
#include "executors/onednn/kernel.h"
#include "executors/onednn/signals.h"
#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/threads.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {
namespace {

Made make_reorder(const Operand& from, const Operand& to, const core::TakeScratch& take_scratch) {
  const Dims& dims = from.layout.is_row_major() ? to.layout.dims() : from.layout.dims();
  const Desc a = desc_of(from, dims), b = desc_of(to, dims);
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::reorder::primitive_desc pd(engine(), a, engine(), b, attr);
  const BufferId scratch = take_scratch(pd.scratchpad_desc().get_size());
  return {std::string("onednn: ") + pd.impl_info_str(),
          {},
          bind_primitive(dnnl::reorder(pd), {{DNNL_ARG_FROM, a, from.buffer},
                                             {DNNL_ARG_TO, b, to.buffer},
                                             {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), scratch}})};
}

}  // namespace

bool CpuDevice::knows(const Layout& layout, const Shape& shape, DType dtype) const {
  return data_type(dtype) != DataType::undef && desc_of(layout, shape, dtype).get(true) != nullptr;
}

void CpuDevice::move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) {
  reorder_now(shape, dtype, from.data, from.layout, to.data, to.layout);
}

Made CpuDevice::convert(const Operand& from, const Operand& to, const core::TakeScratch& scratch) {
  if (from.layout != to.layout) return make_reorder(from, to, scratch);
  if (from.dtype == to.dtype) return Device::convert(from, to, scratch);
  return {"simd", {}, [from, to](const Memory& memory) -> Run {
            return [cast = simd::find_cast(from.dtype, to.dtype), x = memory.at(from), y = memory.at(to),
                    n = from.stored()] { cast(x, y, n); };
          }};
}

void CpuDevice::within(const std::function<void()>& work) {
  const ThreadScope scope(threads_);
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
