// Every functor the executor launches, for the files that define the drivers.
#pragma once

#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/pooling.h"

// X(functor) once for each.
#define HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, T) \
  X(MaxPool<T>)                                  \
  X(MaxPoolGrad<T>)                              \
  X(AveragePool<T>)                              \
  X(AveragePoolGrad<T>)                          \
  X(BiasActivation<T, T>)                        \
  X(Copy<T, T>)

#define HALFSTEP_CUDNN_ELEMENT_FUNCTORS(X)     \
  HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, float) \
  HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, f16)   \
  HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, bf16)  \
  X(Copy<float, f16>)                          \
  X(Copy<float, bf16>)                         \
  X(Copy<f16, float>)                          \
  X(Copy<f16, bf16>)                           \
  X(Copy<bf16, float>)                         \
  X(Copy<bf16, f16>)                           \
  X(Copy<std::int32_t, std::int32_t>)          \
  X(Copy<std::int64_t, std::int64_t>)          \
  X(Copy<bool, bool>)                          \
  X(BiasActivation<f16, float>)                \
  X(BiasActivation<bf16, float>)

/// Defines the drivers for every functor.
#define HALFSTEP_CUDNN_DEFINE_ELEMENTS(...) \
  template void halfstep::cudnn::launch_elements(const __VA_ARGS__&, std::int64_t, CUstream_st*);
