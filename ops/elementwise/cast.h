// Conversion between every pair of ONNX's element types, the storage-only 8-, 4- and 2-bit ones and strings included.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <halfstep/graph/tensor.h>

namespace halfstep::ops {

/// Attributes of ONNX's Cast; they matter for 8-bit floats only.
struct CastOptions {
  bool saturate = true;           ///< out of range becomes the largest finite value; otherwise infinity or NaN
  std::string round_mode = "up";  ///< of f8e8m0: "up", "down" (away from, towards zero) or "nearest"
};

/// Converts the elements of `from` to those of `to`, which has the same shape. Floats round to nearest, ties to even;
/// integers keep their low bits; text that is no number throws Error, and so do complex types.
void cast(const Tensor& from, Tensor& to, const CastOptions& options = {});

/// Codes of the elements of an 8-, 4- or 2-bit type, one a byte (packed elements come with the low bits first), and
/// back: the upper bits of a code are dropped.
std::vector<std::uint8_t> unpack(const Tensor& tensor);
void pack(const std::vector<std::uint8_t>& codes, Tensor& tensor);

/// Every element as double: natively numeric types, 8-bit floats, and packed 4- and 2-bit types.
std::vector<double> decode(const Tensor& tensor);

}  // namespace halfstep::ops
