#include "graph/abridged.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace halfstep {

std::string abridged(const std::vector<std::string>& items) {
  constexpr std::size_t kShown = 4;
  const std::size_t shown = std::min(items.size(), kShown);
  return fmt::format("{}{}", fmt::join(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                     items.size() > shown ? fmt::format(" and {} more", items.size() - shown) : "");
}

}  // namespace halfstep
