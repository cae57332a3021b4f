// Optimizer steps over all parameters at once, in f32: one parallel region over the tensors laid end to end.
// Formulas are those of torch.optim.Adam, AdamW and SGD; moments and momenta below the normal numbers become zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <halfstep/base/dtype.h>

namespace halfstep::simd {

/// Tensors laid end to end and cut into blocks of kBlock elements, whatever tensors those fall in. Made when a step is
/// compiled.
class TensorList {
 public:
  static constexpr std::int64_t kBlock = 4096;

  /// Element counts of the tensors.
  explicit TensorList(std::span<const std::int64_t> sizes);

  std::int64_t elements() const { return begins_.back(); }
  std::int64_t blocks() const { return (elements() + kBlock - 1) / kBlock; }

  /// Calls body(tensor, begin, count) for the pieces of tensors that lie in a block, in order.
  template <class Body>
  void for_block(std::int64_t block, const Body& body) const {
    std::int64_t position = block * kBlock;
    const std::int64_t end = position + kBlock < elements() ? position + kBlock : elements();
    for (std::size_t tensor = first_tensor(position); position < end; ++tensor) {
      const std::int64_t stop = begins_[tensor + 1] < end ? begins_[tensor + 1] : end;
      if (stop > position) body(tensor, position - begins_[tensor], stop - position);
      position = stop;
    }
  }

 private:
  std::size_t first_tensor(std::int64_t position) const;
  std::vector<std::int64_t> begins_;  // one more than tensors
};

/// One parameter of a step. Outputs may be the same arrays as their inputs, but not overlap otherwise.
struct AdamTensor {
  const float* p = nullptr;
  const float* g = nullptr;
  const float* m = nullptr;
  const float* v = nullptr;
  float* p_out = nullptr;
  float* m_out = nullptr;
  float* v_out = nullptr;
};

struct SgdTensor {
  const float* p = nullptr;
  const float* g = nullptr;
  const float* b = nullptr;  ///< momentum buffer; null without momentum
  float* p_out = nullptr;
  float* b_out = nullptr;
};

/// What changes from step to step, read through pointers when the step runs.
struct OptimizerScalars {
  const float* lr = nullptr;
  const std::int64_t* step = nullptr;  ///< this step's number, >= 1
  const bool* apply = nullptr;         ///< false: outputs equal inputs, bit for bit
  const float* grad_factor = nullptr;  ///< gradients are multiplied by it first
};

struct AdamParams {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  bool decoupled = false;  ///< AdamW
};

struct SgdParams {
  double momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
};

void adam_step(const TensorList& list, std::span<const AdamTensor> tensors, const OptimizerScalars& scalars,
               const AdamParams& params);
void sgd_step(const TensorList& list, std::span<const SgdTensor> tensors, const OptimizerScalars& scalars,
              const SgdParams& params);

/// norm = sqrt(sum of squares) over all tensors, summed in double, the same for any number of threads; finite = every
/// element is. Scratch: global_norm_scratch_bytes(list), aligned to 8.
void global_norm(const TensorList& list, std::span<const float* const> tensors, float* norm, bool* finite,
                 void* scratch);
std::size_t global_norm_scratch_bytes(const TensorList& list);

}  // namespace halfstep::simd
