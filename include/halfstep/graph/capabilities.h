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

namespace HALFSTEP_API halfstep {

/// Classes of operators that hardware supports alike.
enum class OpClass { matmul, convolution, pooling, normalization, elementwise, reduction };
std::string_view name_of(OpClass c);

/// What a device runs natively. Passes ask this and never a chip.
struct Capabilities {
  std::string device;                 ///< "Intel Xeon, 2 cores", "NVIDIA H100"
  std::vector<std::string> features;  ///< what was found: "avx512_fp16", "amx_bf16", "compute capability 9.0"
  /// Pairs for which arithmetic in that type is native (not storage with conversion).
  std::set<std::pair<OpClass, DType>> native;
  /// Operators of ai.halfstep that exist as fused kernels: a fusion pass writes only these.
  std::set<std::string, std::less<>> fused;
  /// Memory in bytes, 0 when unknown.
  std::size_t memory = 0;
  /// What `--precision auto` takes on this device, and the sentence that says why.
  DType auto_precision = DType::f32;
  std::string auto_reason;

  bool is_native(OpClass c, DType dtype) const { return native.contains({c, dtype}); }
};

}  // namespace halfstep
