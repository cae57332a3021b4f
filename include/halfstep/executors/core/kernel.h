// From a kernel to a step: operands, their memory, and the function to run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/executors/core/layout.h>
#include <halfstep/graph/shape.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// Index of a piece of memory of a program: part of an arena, a state, a constant, an input or an output.
using BufferId = std::int32_t;
inline constexpr BufferId kNoBuffer = -1;

/// The memory space: the memory in which kernels compute, or host memory, if the device has its own. CPU executors use
/// only `device`.
enum class Space : std::uint8_t { device, host };

/// A value as an operand of a kernel: its memory, layout and type.
struct Operand {
  BufferId buffer = kNoBuffer;
  DType dtype = DType::undefined;
  Shape shape;
  Layout layout;
  Space space = Space::device;

  explicit operator bool() const { return buffer != kNoBuffer; }
  /// Elements in memory, padding included.
  std::int64_t stored() const { return layout.stored(shape.count()); }
  std::size_t bytes() const { return bytes_of(dtype, static_cast<std::size_t>(stored())); }
};

/// Addresses of a program's buffers after placement; 64-byte aligned, except for parts of external buffers.
class Memory {
 public:
  explicit Memory(std::vector<void*> addresses) : addresses_(std::move(addresses)) {}

  /// nullptr for kNoBuffer.
  void* at(BufferId id) const { return id == kNoBuffer ? nullptr : addresses_[id]; }
  void* at(const Operand& operand) const { return at(operand.buffer); }
  template <class T>
  T* as(BufferId id) const {
    return static_cast<T*>(at(id));
  }
  template <class T>
  T* as(const Operand& operand) const {
    return static_cast<T*>(at(operand.buffer));
  }

 private:
  std::vector<void*> addresses_;
};

/// Executes one step of a program, without look-ups and allocations.
using Run = std::function<void()>;
/// Called once, after memory is placed.
using Bind = std::function<Run(const Memory&)>;

/// The result of a kernel maker: a kernel, or the reason for its refusal.
struct Made {
  std::string kernel;  ///< "onednn: brgconv:avx512_core_amx", "simd"; empty when refused
  std::string remark;  ///< the reason when refused; else a remark for the plan
  Bind bind;           ///< empty if nothing has to run (the output is an alias of the input)
};
inline Made refuse(std::string reason) { return {{}, std::move(reason), {}}; }

/// Both in one step, one after the other.
Bind in_sequence(Bind first, Bind second);

}  // namespace core
}  // namespace halfstep
