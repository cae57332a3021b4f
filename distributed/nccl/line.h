// The connections by which ranks have found each other: as long as they last, ranks tell by them that they leave.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace halfstep::nccl {

class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  int get() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }

 private:
  int descriptor_;
};

/// Of a rank that takes part in its first `operations` operations alone.
struct Leaver {
  std::int32_t rank = 0;
  std::uint64_t operations = 0;
  std::array<char, 116> text{};  ///< "rank 1 (host), which has left"
};

/// Of rank 0 to all others, of these to rank 0, which tells the others what one of them tells.
class Line {
 public:
  Line() = default;  ///< nobody is told anything
  explicit Line(int rank) : rank_(rank) {}

  void add(int rank, Socket socket) { ends_.push_back({.rank = rank, .socket = std::move(socket)}); }
  /// Tells that this rank leaves.
  void leave(std::uint64_t operations) noexcept;
  /// Hears what has come since. The text of the first rank that does not take part in operation `number`, from 0 on. A
  /// process that is gone without a word is given a moment, as it may have done its part.
  std::optional<std::string> missing(std::uint64_t number);

 private:
  struct End {
    int rank = 0;
    Socket socket = Socket();
    Leaver heard = {};  // as much as has come of one
    std::size_t received = 0;
    bool has_left = false;
  };
  void hear(End& end);
  void take(const Leaver& leaver);

  int rank_ = 0;
  std::vector<End> ends_;
  std::vector<Leaver> leavers_;  // as they were heard: the first may be why the others leave
  std::optional<int> gone_;      // without a word
  std::chrono::steady_clock::time_point gone_at_;
};

}  // namespace halfstep::nccl
