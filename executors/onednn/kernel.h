// A kernel on its way from the graph to a step: operands, where they lie, and what runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "executors/onednn/layout.h"
#include "graph/dtype.h"
#include "graph/shape.h"

namespace halfstep::onednn {

/// Index of a piece of memory of a program: part of the arena, a state, a constant, an input or an output.
using BufferId = std::int32_t;
inline constexpr BufferId kNoBuffer = -1;

/// A value as one kernel sees it: where it lies and in which layout and type.
struct Operand {
  BufferId buffer = kNoBuffer;
  DType dtype = DType::undefined;
  Shape shape;
  Layout layout;

  explicit operator bool() const { return buffer != kNoBuffer; }
  Desc desc() const { return layout.desc(shape, dtype); }
  /// The same memory under other extents; the layout must be row-major or have just these extents.
  Desc desc(const Dims& dims) const { return layout.is_row_major() ? row_major(dims, dtype) : desc(); }
  /// Elements in memory, padding included.
  std::int64_t stored() const { return layout.stored(shape.count()); }
  std::size_t bytes() const { return bytes_of(dtype, static_cast<std::size_t>(stored())); }
};

/// Addresses of a program's buffers once they are placed.
class Memory {
 public:
  explicit Memory(std::vector<void*> addresses) : addresses_(std::move(addresses)) {}

  /// nullptr for kNoBuffer.
  void* at(BufferId id) const { return id == kNoBuffer ? nullptr : addresses_[static_cast<std::size_t>(id)]; }
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

/// One argument of a oneDNN primitive: DNNL_ARG_*, its descriptor, and where it lies (`offset` bytes into a buffer).
struct Argument {
  int index;
  Desc desc;
  BufferId buffer;
  std::size_t offset = 0;
};

/// Executes a primitive with these arguments; ones without a buffer, or with an empty descriptor, are left out. Its
/// stream is its own, so that several threads may each run one.
Bind bind_primitive(dnnl::primitive primitive, std::vector<Argument> arguments);
/// One after the other, in one step.
Bind in_sequence(Bind first, Bind second);

}  // namespace halfstep::onednn
