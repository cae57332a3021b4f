// A graph of operations for cuDNN, and the ways in which cuDNN can compute it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executors/cudnn/backend_descriptor.h"
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
  bool deterministic = true;   ///< the same bits on every run
  bool rounds_inputs = false;  ///< operands may be rounded to a narrower type, as f32 is to TF32 for tensor cores
  std::size_t workspace = std::size_t{256} << 20;  ///< bytes
};

/// A way to compute a graph: an engine of cuDNN with its settings, ready to run on the target.
struct ExecutionPlan {
  std::shared_ptr<const BackendDescriptor> plan;
  std::int64_t engine = 0;
  std::string notes;  ///< "tensor cores, compiled at run time"; may be empty
  std::size_t workspace = 0;
};

/// Tensors are row-major [N, C, spatial...], with an axis of extent 1 before one spatial axis. Each throws Error
/// (failure) for what cuDNN refuses.
class OperationGraph {
 public:
  /// Number of a tensor: its place among the addresses of a run.
  using Tensor = std::int64_t;

  explicit OperationGraph(PlanTarget target) : target_(std::move(target)) {}

  Tensor tensor(DType dtype, const Shape& shape);
  /// One that lies nowhere: a value between two operations, in f32.
  Tensor between(const Shape& shape);

  enum class Direction : std::uint8_t { forward, data_gradient, weight_gradient };
  /// One of x, w and y from the other two; accumulates in f32. Groups follow from the channels.
  void convolution(Direction direction, Tensor x, Tensor w, Tensor y, const ops::Window& window);
  /// y = x + b, where b is broadcast.
  void add(Tensor x, Tensor b, Tensor y);
  void relu(Tensor x, Tensor y);

  /// What can be taken within the limits, best first by cuDNN's heuristics, engines that need no compiler before the
  /// others; at most `most`. Others than the first take no more workspace than it, and no compiler. To be called once,
  /// at the end.
  std::vector<ExecutionPlan> plan(const PlanLimits& limits, std::size_t most);

 private:
  BackendDescriptor& make(cudnnBackendDescriptorType_t type);
  Tensor add_tensor(cudnnDataType_t type, const Shape& shape, bool is_virtual);
  void pointwise(cudnnPointwiseMode_t mode, Tensor x, const Tensor* b, Tensor y);
  const BackendDescriptor& descriptor(Tensor tensor) const { return *tensors_[static_cast<std::size_t>(tensor)]; }

  PlanTarget target_;
  std::shared_ptr<std::deque<BackendDescriptor>> parts_ = std::make_shared<std::deque<BackendDescriptor>>();
  std::vector<const BackendDescriptor*> tensors_;
  std::vector<std::size_t> ranks_;
  std::vector<cudnnBackendDescriptor_t> operations_;
};

/// The addresses of a run, for tensors of these numbers.
std::shared_ptr<const BackendDescriptor> variant_pack(std::span<const std::int64_t> tensors,
                                                      std::span<void* const> addresses, void* workspace);

}  // namespace halfstep::cudnn
