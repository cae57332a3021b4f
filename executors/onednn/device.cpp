#include "executors/onednn/device.h"

#include <string>
#include <string_view>

#include "executors/onednn/fusion.h"
#include "executors/onednn/kernel.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/reorder.h"
#include "executors/onednn/signals.h"
#include "executors/onednn/simd/elementwise.h"
#include "executors/onednn/threads.h"
#include <halfstep/base/error.h>

namespace halfstep::onednn {
namespace {

Made make_primitive(const dnnl::reorder::primitive_desc& pd, const Operand& from, const Operand& to,
                    const core::TakeScratch& take_scratch) {
  const BufferId scratch = take_scratch(pd.scratchpad_desc().get_size());
  return {std::string("onednn: ") + pd.impl_info_str(),
          {},
          bind_primitive(dnnl::reorder(pd), {{DNNL_ARG_FROM, pd.src_desc(), from.buffer},
                                             {DNNL_ARG_TO, pd.dst_desc(), to.buffer},
                                             {DNNL_ARG_SCRATCHPAD, pd.scratchpad_desc(), scratch}})};
}

/// oneDNN's primitive for anything, which is slow.
bool is_generic(const dnnl::reorder::primitive_desc& pd) {
  const std::string_view kernel = pd.impl_info_str();
  return kernel.starts_with("simple") || kernel.starts_with("ref");
}

Made make_cast(const Operand& from, const Operand& to) {
  return {"simd", {}, [from, to](const Memory& memory) -> Run {
            return [cast = simd::find_cast(from.dtype, to.dtype), x = memory.at(from), y = memory.at(to),
                    n = from.stored()] { cast(x, y, n); };
          }};
}

Made make_reorder(const Operand& from, const Operand& to, const core::TakeScratch& take_scratch);

/// The elements move in the smaller type.
Made make_reorder_and_cast(const Operand& from, const Operand& to, const core::TakeScratch& take_scratch) {
  const bool widens = bytes_of(from.dtype, 1) < bytes_of(to.dtype, 1);
  Operand between = widens ? to : from;
  between.dtype = widens ? from.dtype : to.dtype;
  between.buffer = take_scratch(between.bytes());
  Made first = widens ? make_reorder(from, between, take_scratch) : make_cast(from, between);
  Made second = widens ? make_cast(between, to) : make_reorder(between, to, take_scratch);
  return {first.kernel == second.kernel ? first.kernel : first.kernel + ", " + second.kernel,
          {},
          core::in_sequence(std::move(first.bind), std::move(second.bind))};
}

/// To another layout, and perhaps another type.
Made make_reorder(const Operand& from, const Operand& to, const core::TakeScratch& take_scratch) {
  const Dims& dims = from.layout.is_row_major() ? to.layout.dims() : from.layout.dims();
  const dnnl::reorder::primitive_desc pd(engine(), desc_of(from, dims), engine(), desc_of(to, dims), user_scratchpad());
  const auto own = is_generic(pd) ? Reorder::find(dims, from.layout, to.layout, bytes_of(from.dtype, 1)) : std::nullopt;
  if (!own) return make_primitive(pd, from, to, take_scratch);
  if (from.dtype != to.dtype) return make_reorder_and_cast(from, to, take_scratch);
  return {"simd", {}, [=](const Memory& memory) -> Run {
            return [reorder = *own, x = memory.at(from), y = memory.at(to)] { reorder(x, y); };
          }};
}

}  // namespace

bool CpuDevice::knows(const Layout& layout, const Shape& shape, DType dtype) const {
  return data_type(dtype) != DataType::undef && desc_of(layout, shape, dtype).get(true) != nullptr;
}

void CpuDevice::move(DType dtype, const Shape& shape, const core::Stored& from, const core::Stored& to) {
  reorder_now(shape, dtype, from.data, from.layout, to.data, to.layout);
}

Made CpuDevice::convert(const Operand& from, const Operand& to, const core::TakeScratch& scratch) {
  if (from.layout == to.layout)
    return from.dtype == to.dtype ? Device::convert(from, to, scratch) : make_cast(from, to);
  return from.dtype == to.dtype ? make_reorder(from, to, scratch) : make_reorder_and_cast(from, to, scratch);
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
