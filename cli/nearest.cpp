#include "cli/nearest.h"

#include <algorithm>
#include <cstddef>

namespace halfstep::cli {
namespace {

/// Number of insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string
/// alignment).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

bool has_word(std::string_view text, std::string_view word) {
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find_first_of("-_", begin), text.size());
    if (text.substr(begin, end - begin) == word) return true;
    begin = end + 1;
  }
  return false;
}

/// The distance of `name` from `typed`, in typing errors.
std::size_t distance(std::string_view typed, std::string_view name) {
  constexpr std::size_t kShortestBeginning = 3;
  const std::size_t errors = edit_distance(typed, name);
  const bool begun = typed.size() >= kShortestBeginning && name.starts_with(typed);
  return begun || has_word(typed, name) ? std::min<std::size_t>(errors, 1) : errors;
}

}  // namespace

std::optional<std::string> nearest(std::string_view typed, const std::vector<std::string>& names) {
  const std::size_t farthest = std::max<std::size_t>(1, typed.size() / 3);
  const std::string* best = nullptr;
  std::size_t best_distance = farthest + 1;
  for (const std::string& name : names) {
    const std::size_t d = distance(typed, name);
    // At equal distance the shorter name is more likely: `out` means `output`, not `output-form`.
    if (d < best_distance || (best && d == best_distance && name.size() < best->size())) {
      best = &name;
      best_distance = d;
    }
  }
  // A name without any typed part is not suggested.
  if (!best || best_distance >= best->size()) return {};
  return *best;
}

std::string did_you_mean(std::string_view typed, const std::vector<std::string>& names, std::string otherwise) {
  const std::optional<std::string> name = nearest(typed, names);
  return name ? "did you mean '" + *name + "'?" : otherwise;
}

}  // namespace halfstep::cli
