#include "executors/cudnn/index_order.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kDigitBits = 8;

}  // namespace

IndexOrder::IndexOrder(KernelContext& context, std::int64_t count, std::int64_t largest) {
  arguments_.count = count;
  arguments_.chunks = pieces_of(count, OrderArguments::kChunk);
  const int bits = std::bit_width(static_cast<std::uint64_t>(largest));
  digits_ = std::max(static_cast<int>(pieces_of(bits, kDigitBits)), 1);
  const auto load = [&](const char* name, std::string_view text) {
    return load_text(context, name, "OrderArguments", kOrderArgumentsText, std::string(kDigitText) + std::string(text));
  };
  count_ = load("count_digits", kCountDigitsText);
  place_ = load("place_digits", kPlaceDigitsText);
  order_ = load("order_digits", kOrderDigitsText);
}

std::size_t IndexOrder::scratch_bytes() const {
  const auto numbers =
      static_cast<std::size_t>(4 * arguments_.count + (std::int64_t{1} << kDigitBits) * arguments_.chunks);
  return numbers * sizeof(int);
}

IndexOrder::Sorted IndexOrder::sort(void* scratch, cudaStream_t stream) const {
  int *keys = indices(scratch), *next_keys = keys + arguments_.count, *places = next_keys + arguments_.count,
      *next_places = places + arguments_.count;
  OrderArguments a = arguments_;
  a.counts = reinterpret_cast<unsigned*>(next_places + a.count);
  for (int digit = 0; digit < digits_; ++digit) {
    a.keys = keys;
    a.order = places;
    a.next_keys = next_keys;
    a.next_order = next_places;
    a.shift = digit * kDigitBits;
    a.is_first = digit == 0;
    count_->launch(blocks_for(a.chunks, 1), kThreads, as_argument(a), stream);
    place_->launch(1, kThreads, as_argument(a), stream);
    order_->launch(blocks_for(a.chunks, 1), kThreads, as_argument(a), stream);
    std::swap(keys, next_keys);
    std::swap(places, next_places);
  }
  return {keys, places};
}

}  // namespace halfstep::cudnn
