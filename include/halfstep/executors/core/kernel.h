// A kernel on its way from the graph to a step: operands, where they lie, and what runs.
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

/// Which memory: the one kernels compute in, or the host's, where a device has one of its own. Executors on the CPU
/// know `device` alone.
enum class Space : std::uint8_t { device, host };

/// A value as one kernel sees it: where it lies and in which layout and type.
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

/// Addresses of a program's buffers once they are placed; 64-byte aligned, but for parts of what others made.
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

/// Executes one step of a program. Neither looks anything up nor allocates.
using Run = std::function<void()>;
/// Called once, when memory is placed.
using Bind = std::function<Run(const Memory&)>;

/// What a kernel maker gives: a kernel, or why it has none.
struct Made {
  std::string kernel;  ///< "onednn: brgconv:avx512_core_amx", "simd"; empty when refused
  std::string remark;  ///< the reason when refused; else what a reader of the plan should know
  Bind bind;           ///< empty when nothing has to run (the output is another name of the input)
};
inline Made refuse(std::string reason) { return {{}, std::move(reason), {}}; }

/// One after the other, in one step.
Bind in_sequence(Bind first, Bind second);

}  // namespace core
}  // namespace halfstep
