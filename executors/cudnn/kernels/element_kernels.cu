// Kernels of one thread an element, for the device.
#include "executors/cudnn/kernels/device_driver.cuh"
#include "executors/cudnn/kernels/functors.h"

namespace halfstep::cudnn {
HALFSTEP_CUDNN_ELEMENT_FUNCTORS(HALFSTEP_CUDNN_DEFINE_ELEMENTS)
}
