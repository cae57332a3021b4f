// The drivers of own kernels: loops on the host, in the stream's order.
#include "executors/cudnn/kernels/functors.h"
#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/status.h"
#include "tests/executors/cudnn/emulation/emulation.h"

namespace halfstep::cudnn {

template <class F>
void launch_elements(const F& f, std::int64_t count, CUstream_st* stream) {
  emulation::submit(stream, [=] {
    for (std::int64_t i = 0; i < count; ++i) f(i);
  });
  check(cudaGetLastError(), "kernel launch");
}
HALFSTEP_CUDNN_ELEMENT_FUNCTORS(HALFSTEP_CUDNN_DEFINE_ELEMENTS)

}  // namespace halfstep::cudnn
