// What a failed call leaves behind.
#pragma once

namespace halfstep::cudnn {

/// Clears the failure that the CUDA runtime keeps, which the next launch of a kernel would report as its own. To be
/// called where a failure of any of the libraries is handled; `check` (status.h) does.
void forget_failure();

}  // namespace halfstep::cudnn
