// The capabilities of a device. Passes depend on these, never on a specific chip.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/graph/chains.h>

namespace HALFSTEP_API halfstep {

/// Classes of operators with the same hardware support.
enum class OpClass { matmul, convolution, pooling, normalization, elementwise, reduction };
std::string_view name_of(OpClass c);

/// A fused operator of ai.halfstep, which computes an operator and the one that follows: FusedGemm for Gemm and Relu.
struct Fusion {
  std::string op;                             ///< of ai.onnx, computed first: "Gemm"; empty: `fused` alone
  std::string fused;                          ///< the replacement for both: "FusedGemm"
  std::vector<std::string> activations = {};  ///< supported after `op`: "Relu", "Clip", "Gelu"
  bool widens = false;                        ///< it can produce f32 in place of a Cast of its half-precision result
  bool adds = false;                          ///< it can add a tensor of its result's shape before the activation
};

/// The capabilities of a device. Passes depend on these, never on a specific chip.
struct Capabilities {
  std::string device;                 ///< "Intel Xeon, 2 cores", "NVIDIA H100"
  std::vector<std::string> features;  ///< detected features: "avx512_fp16", "amx_bf16", "compute capability 9.0"
  /// Operator classes and types with native arithmetic (not only storage with conversion).
  std::set<std::pair<OpClass, DType>> native;
  /// The supported fused operators; the fusion pass creates no others.
  std::vector<Fusion> fusions;
  Chains chains;
  /// Optimizer steps of ai.halfstep that have a kernel; others are decomposed into elementwise nodes.
  std::set<std::string, std::less<>> updates;
  /// Half copies of parameters are states, as it pays that an optimizer's kernel writes them: see keep_half_copies.
  bool half_copies = false;
  /// Memory in bytes; 0 if unknown.
  std::size_t memory = 0;
  /// The precision that `--precision auto` selects on this device, and a sentence with the reason.
  DType auto_precision = DType::f32;
  std::string auto_reason;

  bool is_native(OpClass c, DType dtype) const { return native.contains({c, dtype}); }
};

}  // namespace halfstep
