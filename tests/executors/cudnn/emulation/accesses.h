// Memory as the threads of a generated kernel access it. Found are accesses of two threads that no barrier orders, of
// shared memory that no thread of the block wrote, and of what is neither memory of the device nor the thread's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace emulation {

enum class Access : std::uint8_t { read, write, atomic };

using Bytes = std::span<const std::byte>;

/// Blocks of a launch are in no order. Those of a block's threads that a barrier parts are, whatever order they come
/// in here. Two accesses of a byte need an order unless both are reads or both atomic. What was accessed of global
/// memory is forgotten beyond 8 MB of it, so that a fault may be missed.
class Accesses {
 public:
  void begin_launch();
  /// The threads' shared memory is nobody else's. All of `code` may be read: constants, the index of a thread.
  void begin_block(unsigned block, Bytes shared, Bytes code);
  /// What follows is done by a thread whose own variables lie in `stack`.
  void enter(unsigned thread, Bytes stack);
  void pass_block_barrier();
  void pass_warp_barrier(unsigned warp);

  void access(const void* p, std::size_t bytes, Access kind);
  /// Anything else that a thread does wrong.
  void fail(const std::string& what);

  /// The first fault of the launch, "" where there is none.
  const std::string& fault() const { return fault_; }

 private:
  void forget_pages();

  enum class Spread : std::uint8_t { thread, warp, block };
  /// Accesses of a byte, of one kind, that are in no order with some that may follow.
  struct Seen {
    std::uint32_t last = 0;
    std::uint16_t thread = 0;          // of the last
    Spread spread = Spread::thread;    // of those since the barrier
    bool is_of_earlier_block = false;  // is one among them
  };
  using Byte = std::array<Seen, 3>;
  struct Page {
    std::array<Byte, 4096> bytes;
    Bytes allocation;  // the last one that was found here
  };

  bool conflicts(const Seen& seen, std::uint32_t since) const;
  void add(Seen& seen, std::uint32_t since) const;
  void access_byte(Byte& byte, const std::byte* p, Access kind, bool is_shared);
  void access_bytes(std::span<Byte> seen, const std::byte* p, Access kind, bool is_shared);
  void access_global(const std::byte* p, std::size_t bytes, Access kind);
  Page& page_of(std::uintptr_t number);
  std::string place_of(const std::byte* p) const;

  // Time is counted in barriers, so that what is older than one needs not be forgotten.
  std::uint32_t now_ = 0, launch_ = 0, block_began_ = 0, barrier_ = 0;
  std::array<std::uint32_t, 32> warp_barrier_ = {};
  unsigned block_ = 0, thread_ = 0;
  Bytes shared_, code_, stack_;
  std::vector<Byte> shared_bytes_;
  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;  // by number
  struct Recent {
    std::uintptr_t number = 0;
    Page* page = nullptr;
  };
  std::array<Recent, 64> recent_ = {};
  std::string fault_;
};

}  // namespace emulation
