// Kernels of one group of threads a row, for the device.
#include "executors/cudnn/kernels/device_driver.cuh"
#include "executors/cudnn/kernels/functors.h"

namespace halfstep::cudnn {
HALFSTEP_CUDNN_ROW_FUNCTORS(HALFSTEP_CUDNN_DEFINE_ROWS)
}
