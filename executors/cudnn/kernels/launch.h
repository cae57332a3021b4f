// Starting kernels. Declared here for every functor; defined for those functors.h lists by the .cu file, on the device.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace halfstep::cudnn {

/// f(i) for i in [0, count), in the stream's order.
template <class F>
void launch_elements(const F& f, std::int64_t count, CUstream_st* stream);

}  // namespace halfstep::cudnn
