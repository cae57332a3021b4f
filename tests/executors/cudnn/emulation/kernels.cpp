// The drivers of own kernels: loops on the host, in the stream's order.
#include "executors/cudnn/kernels/functors.h"
#include "executors/cudnn/kernels/host_driver.h"
#include "executors/cudnn/kernels/launch.h"
#include "tests/executors/cudnn/emulation/emulation.h"

namespace halfstep::cudnn {

template <class F>
void launch_elements(const F& f, std::int64_t count, CUstream_st* stream) {
  emulation::submit(stream, [=] { elements_on_host(f, count); });
}
template <class F>
void launch_rows(const F& f, CUstream_st* stream) {
  emulation::submit(stream, [=] { rows_on_host(f); });
}

HALFSTEP_CUDNN_ELEMENT_FUNCTORS(HALFSTEP_CUDNN_DEFINE_ELEMENTS)
HALFSTEP_CUDNN_ROW_FUNCTORS(HALFSTEP_CUDNN_DEFINE_ROWS)

}  // namespace halfstep::cudnn
