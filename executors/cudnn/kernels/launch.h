// Starting kernels. Declared here for every functor; defined for those functors.h lists by the .cu files, on the
// device. host_driver.h has the same loops for the host.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace halfstep::cudnn {

/// f(i) for i in [0, count), in the stream's order.
template <class F>
void launch_elements(const F& f, std::int64_t count, CUstream_st* stream);

/// Every row of f (see reduction.h), in the stream's order.
template <class F>
void launch_rows(const F& f, CUstream_st* stream);

}  // namespace halfstep::cudnn
