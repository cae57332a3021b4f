#include "passes/load/constant_names.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <sstream>
#include <vector>

#include <fnmatch.h>

namespace halfstep {
namespace {

using Patterns = std::vector<std::string>;

Patterns separated_by_spaces(const char* text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

bool matches_any(const Patterns& patterns, const std::string& name) {
  return std::ranges::any_of(patterns,
                             [&](const auto& pattern) { return fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
}

const Patterns kMadeUp = separated_by_spaces(
    "onnx::* onnx__* "              // PyTorch's older exporter: folded, or without a name
    "/* *_output_[0-9]* "           // the same: named after the node that gives it
    "val_[0-9]* *lifted_tensor_* "  // PyTorch's newer exporter
    "*_tensor_constant* "           // PyTorch's tracers
    "*:[0-9] *__[0-9]* "            // tf2onnx
    "*[Cc]onst *[Cc]onst[._/0-9]* *[Cc]onst_* *[Cc]onstant* "
    "p2o.* *.tmp_[0-9]* helper.* "                      // Paddle2ONNX
    "ortshared_* *_scalar_* scalar_* int64_* float_* "  // ONNX Runtime's optimizer, MXNet
    "*cst");                                            // onnxscript, skl2onnx

// By the attribute's name; of a path its last part.
const Patterns kBuffers = separated_by_spaces(
    "running_* moving_* num_batches_tracked "  // statistics of normalizations
    "mean std var pixel_mean image_mean img_mean input_mean norm_mean data_mean channel_mean pixel_std image_std "
    "img_std input_std norm_std data_std channel_std "  // of the data
    "position_ids token_type_ids pe inv_freq freqs_cis freqs_cos freqs_sin cos_cached sin_cached cos_cache sin_cache "
    "rope_freqs inv_timescales mask *_mask masked_bias tril triu relative_position_index relative_coords_table anchors "
    "anchor_grid grid strides priors eps epsilon embed_scale scale_factor mel_basis filterbank window betas "
    "alphas_cumprod sqrt_*_cumprod");

bool is_identifier_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

}  // namespace

NameKind kind_of_name(const std::string& name) {
  if (name.find("ReadVariableOp") != std::string::npos) return NameKind::variable;
  const bool all_digits = std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (all_digits || matches_any(kMadeUp, name)) return NameKind::made_up;
  const bool is_dotted =
      std::all_of(name.begin(), name.end(), [](char c) { return is_identifier_character(c) || c == '.'; }) &&
      name.find("..") == std::string::npos && name.front() != '.' && name.back() != '.' &&
      std::isdigit(static_cast<unsigned char>(name.front())) == 0;
  return is_dotted && name.find('.') != std::string::npos ? NameKind::path : NameKind::plain;
}

std::string_view module_of(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

bool is_buffer_name(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return matches_any(kBuffers, std::string(dot == std::string_view::npos ? name : name.substr(dot + 1)));
}

}  // namespace halfstep
