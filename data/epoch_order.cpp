#include "data/epoch_order.h"

#include <numeric>
#include <utility>

#include "base/philox.h"

namespace halfstep {
namespace {

constexpr std::uint32_t kShuffleStream = 0x73687566;  // separates these numbers from other uses of the same seed

__extension__ using Wide = unsigned __int128;

/// The sequence of random numbers of one (seed, epoch).
class Stream {
 public:
  Stream(std::uint64_t seed, std::int64_t epoch) : key_(philox_key(seed)), epoch_(static_cast<std::uint32_t>(epoch)) {}

  std::uint64_t next() {
    if (have_second_) return have_second_ = false, second_;
    const PhiloxCounter block = philox4x32_10(
        {static_cast<std::uint32_t>(index_), static_cast<std::uint32_t>(index_ >> 32), epoch_, kShuffleStream}, key_);
    ++index_;
    second_ = block[2] | std::uint64_t{block[3]} << 32;
    have_second_ = true;
    return block[0] | std::uint64_t{block[1]} << 32;
  }

  /// Uniform in [0, bound), without bias: Lemire, "Fast random integer generation in an interval", 2019.
  std::uint64_t below(std::uint64_t bound) {
    Wide product = Wide{next()} * bound;
    if (static_cast<std::uint64_t>(product) < bound) {
      const std::uint64_t threshold = (0 - bound) % bound;
      while (static_cast<std::uint64_t>(product) < threshold) product = Wide{next()} * bound;
    }
    return static_cast<std::uint64_t>(product >> 64);
  }

 private:
  PhiloxKey key_;
  std::uint32_t epoch_;
  std::uint64_t index_ = 0;
  std::uint64_t second_ = 0;
  bool have_second_ = false;
};

}  // namespace

void sequential_order(std::span<std::int64_t> order) { std::iota(order.begin(), order.end(), std::int64_t{0}); }

void shuffled_order(std::span<std::int64_t> order, std::uint64_t seed, std::int64_t epoch) {
  sequential_order(order);
  Stream stream(seed, epoch);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[stream.below(i)]);
}

}  // namespace halfstep
