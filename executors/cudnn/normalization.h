// What the makers of normalizations share.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "executors/cudnn/kernel.h"
#include "executors/cudnn/kernels/normalization_text.h"
#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {

/// Of a block of their kernels.
inline constexpr unsigned kNormalizationThreads = 256;

/// The types that a normalization's text is for; `refusal` where it is for none.
struct NormalizationTypes {
  std::string_view element, parameter;
  std::string refusal = {};
};
/// Of operand `x` and the parameters from `first` up to `last`, absent ones left out.
NormalizationTypes normalization_types(KernelContext& context, std::size_t x, std::size_t first, std::size_t last);

/// The kernel `name` of these texts, one after the other.
std::shared_ptr<const LoadedKernel> load_normalization(KernelContext& context, const char* name,
                                                       const NormalizationTypes& types,
                                                       std::initializer_list<std::string_view> texts);

NormalizationArguments with_addresses(NormalizationArguments a, const Launch& l);

}  // namespace halfstep::cudnn
