#include "executors/cudnn/resources.h"

#include "executors/cudnn/plan_cache.h"

namespace halfstep::cudnn {

Libraries open_libraries(int device, int capability) {
  check(cudaSetDevice(device), "cudaSetDevice");
  Libraries libraries;
  libraries.device = device;
  libraries.capability = capability;
  libraries.plans = std::make_shared<PlanCache>();
  libraries.stream = make_stream();
  cudnnHandle_t cudnn = nullptr;
  check(cudnnCreate(&cudnn), "cudnnCreate");
  libraries.cudnn = CudnnHandle(cudnn);
  check(cudnnSetStream(cudnn, libraries.stream.get()), "cudnnSetStream");
  cublasLtHandle_t blas = nullptr;
  check(cublasLtCreate(&blas), "cublasLtCreate");
  libraries.blas = BlasHandle(blas);
  return libraries;
}

}  // namespace halfstep::cudnn
