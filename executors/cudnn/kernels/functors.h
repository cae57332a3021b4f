// Every functor the executor launches, for the files that define the drivers.
#pragma once

#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/loss.h"
#include "executors/cudnn/kernels/optimizer.h"
#include "executors/cudnn/kernels/pooling.h"
#include "executors/cudnn/kernels/softmax.h"

// X(functor) once for each.
#define HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, T) \
  X(Unary<T>)                                    \
  X(Binary<T>)                                   \
  X(Where<T>)                                    \
  X(ReluGrad<T>)                                 \
  X(MaxPool<T>)                                  \
  X(MaxPoolGrad<T>)                              \
  X(AveragePool<T>)                              \
  X(AveragePoolGrad<T>)                          \
  X(BiasActivation<T, T>)                        \
  X(Copy<T, T>)                                  \
  X(Copy<T, std::int32_t>)                       \
  X(Copy<T, std::int64_t>)                       \
  X(Copy<T, bool>)                               \
  X(Copy<std::int32_t, T>)                       \
  X(Copy<std::int64_t, T>)                       \
  X(Copy<bool, T>)                               \
  X(CrossEntropyGrad<T, std::int32_t, T>)        \
  X(CrossEntropyGrad<T, std::int64_t, T>)

#define HALFSTEP_CUDNN_ELEMENT_FUNCTORS(X)       \
  HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, float)   \
  HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, f16)     \
  HALFSTEP_CUDNN_ELEMENT_FUNCTORS_OF(X, bf16)    \
  X(Binary<std::int64_t>)                        \
  X(Binary<bool>)                                \
  X(Where<std::int64_t>)                         \
  X(Where<bool>)                                 \
  X(Copy<float, f16>)                            \
  X(Copy<float, bf16>)                           \
  X(Copy<f16, float>)                            \
  X(Copy<f16, bf16>)                             \
  X(Copy<bf16, float>)                           \
  X(Copy<bf16, f16>)                             \
  X(Copy<std::int32_t, std::int32_t>)            \
  X(Copy<std::int32_t, std::int64_t>)            \
  X(Copy<std::int32_t, bool>)                    \
  X(Copy<std::int64_t, std::int32_t>)            \
  X(Copy<std::int64_t, std::int64_t>)            \
  X(Copy<std::int64_t, bool>)                    \
  X(Copy<bool, std::int32_t>)                    \
  X(Copy<bool, std::int64_t>)                    \
  X(Copy<bool, bool>)                            \
  X(BiasActivation<f16, float>)                  \
  X(BiasActivation<bf16, float>)                 \
  X(CrossEntropyGrad<f16, std::int32_t, float>)  \
  X(CrossEntropyGrad<f16, std::int64_t, float>)  \
  X(CrossEntropyGrad<bf16, std::int32_t, float>) \
  X(CrossEntropyGrad<bf16, std::int64_t, float>) \
  X(AdamStep)                                    \
  X(SgdStep)                                     \
  X(LossScaleUpdate)

#define HALFSTEP_CUDNN_ROW_FUNCTORS_OF(X, T) \
  X(ReduceSum<T>)                            \
  X(Softmax<T>)                              \
  X(SoftmaxGrad<T>)                          \
  X(CrossEntropyRows<T, std::int32_t>)       \
  X(CrossEntropyRows<T, std::int64_t>)       \
  X(CrossEntropyTotal<T, std::int32_t>)      \
  X(CrossEntropyTotal<T, std::int64_t>)

#define HALFSTEP_CUDNN_ROW_FUNCTORS(X)     \
  HALFSTEP_CUDNN_ROW_FUNCTORS_OF(X, float) \
  HALFSTEP_CUDNN_ROW_FUNCTORS_OF(X, f16)   \
  HALFSTEP_CUDNN_ROW_FUNCTORS_OF(X, bf16)  \
  X(ReduceSum<std::int64_t>)               \
  X(SquareSums)                            \
  X(GlobalNorm)

/// Defines the drivers for every functor.
#define HALFSTEP_CUDNN_DEFINE_ELEMENTS(...) \
  template void halfstep::cudnn::launch_elements(const __VA_ARGS__&, std::int64_t, CUstream_st*);
#define HALFSTEP_CUDNN_DEFINE_ROWS(...) template void halfstep::cudnn::launch_rows(const __VA_ARGS__&, CUstream_st*);
