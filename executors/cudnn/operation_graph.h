// A graph of operations for cuDNN, and the ways in which cuDNN can compute it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "executors/cudnn/backend_descriptor.h"
#include "executors/cudnn/tensor_order.h"
#include "ops/convolution/window.h"
#include <halfstep/base/dtype.h>
#include <halfstep/graph/shape.h>

namespace halfstep::cudnn {

/// What cuDNN plans for: a device that is there, or one of which only the properties are known.
struct PlanTarget {
  cudnnHandle_t handle = nullptr;
  std::shared_ptr<const BackendDescriptor> properties = {};  ///< set: there is no device, and plans cannot run
};

/// Which ways of computing are taken.
struct PlanLimits {
  bool deterministic = true;               ///< the same bits on every run
  bool tensor_cores = false;               ///< which round operands of f32 to TF32
  std::size_t workspace = kMostWorkspace;  ///< bytes
};

/// A way to compute a graph: an engine of cuDNN with its settings.
struct ExecutionPlan {
  std::string name;  ///< "engine 62 k2=4 k13=0": no other of the graph has it
  std::int64_t engine = 0;
  std::string notes;  ///< "tensor cores, compiled at run time"; may be empty
  bool uses_tensor_cores = false;
  bool is_compiled = false;  ///< at run time, which takes seconds

  struct Built {
    std::shared_ptr<const BackendDescriptor> plan = {};
    std::size_t workspace = 0;
  };
  /// Without a plan where cuDNN refuses it, or where it takes too much workspace. Built by the first call, for all
  /// copies of this, in whatever thread.
  std::function<Built()> built;
};

/// Tensors are [N, C, spatial...], all in one order, with axes of extent 1 before fewer than two spatial ones. Each
/// throws Error (failure) for what cuDNN refuses.
class OperationGraph {
 public:
  /// Number of a tensor: its place among the addresses of a run.
  using Tensor = std::int64_t;

  OperationGraph(PlanTarget target, TensorOrder order) : target_(std::move(target)), order_(order) {}

  Tensor tensor(DType dtype, const Shape& shape);
  /// One that lies nowhere: a value between two operations.
  Tensor between(const Shape& shape, DType dtype = DType::f32);

  enum class Direction : std::uint8_t { forward, data_gradient, weight_gradient };
  /// One of x, w and y from the other two; accumulates in f32. Groups follow from the channels.
  void convolution(Direction direction, Tensor x, Tensor w, Tensor y, const ops::Window& window);
  /// y = x + b, where b is broadcast.
  void add(Tensor x, Tensor b, Tensor y);
  void relu(Tensor x, Tensor y);
  void relu_gradient(Tensor dy, Tensor x, Tensor dx);

  /// Batch normalization. Parameters and statistics are [1, C, 1...] in f32: the mean, and 1 by the deviation.
  struct Normalized {
    Tensor x, scale, bias, mean, inverse, y;
  };
  /// From the statistics of the batch, which are results.
  void batch_normalization(const Normalized& tensors, Tensor epsilon);
  /// From statistics that are given.
  void normalization_by(const Normalized& tensors);
  struct NormalizationGradient {
    Tensor dy, x, scale, mean, inverse, dx, dscale, dbias;
  };
  void batch_normalization_gradient(const NormalizationGradient& tensors);

  // What attention is made of: tensors of four axes, of any strides.
  Tensor tensor(DType dtype, const Shape& shape, std::span<const std::int64_t> strides);
  Tensor between(cudnnDataType_t type, const Shape& shape, std::span<const std::int64_t> strides);
  /// A number in f32 that lies in the host's memory.
  Tensor number();
  /// y = a b of the last two axes; heads, which axis 1 counts, may share one of b.
  void matmul(Tensor a, Tensor b, Tensor y);
  /// y = function(x, b), or where a condition is given, x where it holds and b elsewhere; b may be kNone.
  static constexpr Tensor kNone = -1;
  struct Function {
    cudnnPointwiseMode_t mode;
    cudnnDataType_t type = CUDNN_DATA_FLOAT;  ///< that it computes in
    std::int64_t axis = -1;                   ///< whose index it gives
  };
  void pointwise(const Function& function, Tensor x, Tensor b, Tensor y, Tensor condition = kNone);
  void reduce(cudnnReduceTensorOp_t operation, Tensor x, Tensor y);
  /// The elements of x as y's strides find them.
  void reshape(Tensor x, Tensor y);

  /// What can be taken within the limits, best first by cuDNN's heuristics, at most `most`: engines that need no
  /// compiler, which are built, then others, of which building tells whether cuDNN takes them. To be called once, at
  /// the end.
  std::vector<ExecutionPlan> plan(const PlanLimits& limits, std::size_t most);

 private:
  BackendDescriptor& make(cudnnBackendDescriptorType_t type);
  void append(BackendDescriptor& operation);
  BackendDescriptor& normalization(cudnnBackendNormFwdPhase_t phase, const Normalized& tensors);
  /// `flag` is set for the tensor; the default is none.
  Tensor add_tensor(cudnnDataType_t type, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                    cudnnBackendAttributeName_t flag = CUDNN_ATTR_TENSOR_UNIQUE_ID);
  const BackendDescriptor& descriptor(Tensor tensor) const { return *tensors_[static_cast<std::size_t>(tensor)]; }

  PlanTarget target_;
  TensorOrder order_;
  std::shared_ptr<std::deque<BackendDescriptor>> parts_ = std::make_shared<std::deque<BackendDescriptor>>();
  std::vector<const BackendDescriptor*> tensors_;
  std::vector<std::size_t> ranks_;
  std::vector<cudnnBackendDescriptor_t> operations_;
};

/// The addresses of a run, for tensors of these numbers.
std::shared_ptr<const BackendDescriptor> variant_pack(std::span<const std::int64_t> tensors,
                                                      std::span<void* const> addresses, void* workspace);

}  // namespace halfstep::cudnn
