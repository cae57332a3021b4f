// What the makers of attention share.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "executors/cudnn/kernel.h"
#include "ops/attention/fused_attention.h"

namespace halfstep::cudnn {

/// Why no kernel of the device takes the operands, the queries being input `first`; empty where one may.
std::string attention_refusal(KernelContext& context, const ops::FusedAttentionConfig& c, std::size_t first);

/// The tensors of a launch; null where there is no mask.
struct AttentionAddresses {
  const void *q = nullptr, *k = nullptr, *v = nullptr, *mask = nullptr;
};
AttentionAddresses attention_addresses(const Launch& launch, std::size_t first);

/// Where a gradient goes: which result holds that of keys and of values, and how many bytes of each result are set to 0
/// before, since its rows are not all of it.
struct AttentionWrites {
  std::string refusal;
  std::size_t k = 0, v = 0;
  std::array<std::size_t, 3> cleared{};

  void clear(const Launch& launch) const;
};
AttentionWrites attention_writes(KernelContext& context, const ops::FusedAttentionConfig& c);

// By cuDNN's graph API, for half precision.
Made make_fused_attention_planned(KernelContext& context);
Made make_attention_grad_planned(KernelContext& context);

}  // namespace halfstep::cudnn
