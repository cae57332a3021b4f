// Where the values of a step live: one arena, shared by liveness.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// A buffer and the steps during which it is needed.
struct Lifetime {
  std::size_t bytes = 0;
  std::int32_t first = 0;  ///< step that writes it
  std::int32_t last = 0;   ///< last step that reads it (inclusive)
};

struct Arena {
  std::vector<std::size_t> offsets;  ///< one per lifetime, 64-byte aligned
  std::size_t bytes = 0;
};

/// How the values between nodes are kept.
enum class ValueMemory : std::uint8_t {
  shared,    ///< in one arena, by their lifetimes
  separate,  ///< each in memory of its own
};

/// Memory that a step has to fit into.
struct MemoryRoom {
  std::size_t bytes = 0;  ///< 0: not known; nothing is refused then
  std::string owner;      ///< "this machine", "NVIDIA L4"
  bool is_host = true;    ///< constants, inputs and outputs lie there, too
};
MemoryRoom machine_room();

/// Throws BeyondMemory(failure), naming the largest tensors and the batch that fits, when a step of the graph takes
/// more memory than there is: constants, states, inputs, outputs, and at the least what lives between nodes. To be
/// called before any of it is allocated, since systems promise more than there is, and end programs that come to use
/// it.
void check_step_fits(const Graph& graph, ValueMemory values, const MemoryRoom& room = machine_room());
/// The same with what lies between nodes and grows with the batch, once that is known.
void check_step_fits(const Graph& graph, std::size_t between, const MemoryRoom& room = machine_room());

/// A step that does not fit.
class BeyondMemory final : public Error {
 public:
  using Error::Error;
};

/// What Device::allocate throws where the device has too little memory left.
class TooLittleMemory final : public std::bad_alloc {
 public:
  explicit TooLittleMemory(std::size_t free) : free_(free) {}
  const char* what() const noexcept override { return "too little memory on the device"; }
  std::size_t free() const { return free_; }  ///< bytes

 private:
  std::size_t free_;
};
/// What memory was asked for.
struct AskedMemory {
  const char* what = "states and constants";
  std::size_t bytes = 0;   ///< 0: not known
  std::size_t before = 0;  ///< what was had before and grows with the batch, too
};
/// The error for that, as check_step_fits has it.
[[noreturn]] void throw_too_little(const Graph& graph, const AskedMemory& asked, const TooLittleMemory& left,
                                   const MemoryRoom& room);

/// Offsets such that no two buffers alive at the same step overlap. Greedy: the largest first, each at the lowest gap
/// that fits it (Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference"); where that leaves
/// gaps, other orders are tried, and the best is taken. Of more than 10,000 buffers, for which that takes seconds, each
/// is placed where it is needed first, if that is as good.
Arena plan_memory(const std::vector<Lifetime>& lifetimes);

}  // namespace halfstep
