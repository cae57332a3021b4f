// What a device computes natively: passes ask this and never a chip.
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

/// Classes of operators that hardware supports alike.
enum class OpClass { matmul, convolution, pooling, normalization, elementwise, reduction };
std::string_view name_of(OpClass c);

/// An operator of ai.halfstep whose kernels also do what follows another: FusedGemm for Gemm and Relu.
struct Fusion {
  std::string op;                             ///< of ai.onnx, done first: "Gemm"; empty: the fused one alone
  std::string fused;                          ///< what stands for both: "FusedGemm"
  std::vector<std::string> activations = {};  ///< that may follow: "Relu", "Clip", "Gelu"
  bool widens = false;                        ///< it gives f32 where a Cast of its half-precision result would
};

/// What a device runs natively. Passes ask this and never a chip.
struct Capabilities {
  std::string device;                 ///< "Intel Xeon, 2 cores", "NVIDIA H100"
  std::vector<std::string> features;  ///< what was found: "avx512_fp16", "amx_bf16", "compute capability 9.0"
  /// Pairs for which arithmetic in that type is native (not storage with conversion).
  std::set<std::pair<OpClass, DType>> native;
  /// What one kernel does together: a fusion pass writes only this.
  std::vector<Fusion> fusions;
  Chains chains;
  /// Optimizer steps of ai.halfstep that have a kernel; the others are written out.
  std::set<std::string, std::less<>> updates;
  /// Memory in bytes, 0 when unknown.
  std::size_t memory = 0;
  /// What `--precision auto` takes on this device, and the sentence that says why.
  DType auto_precision = DType::f32;
  std::string auto_reason;

  bool is_native(OpClass c, DType dtype) const { return native.contains({c, dtype}); }
};

}  // namespace halfstep
