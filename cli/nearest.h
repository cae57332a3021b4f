// What somebody meant who mistyped a name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace halfstep::cli {

/// The one of `names` that is nearest to `typed`: a few typing errors away, begun by it, or a word of it ("batch" for
/// "batch-size"). Nothing where none is near.
std::optional<std::string> nearest(std::string_view typed, const std::vector<std::string>& names);

/// "did you mean 'NAME'?" for the nearest, or else `otherwise`.
std::string did_you_mean(std::string_view typed, const std::vector<std::string>& names, std::string otherwise = {});

}  // namespace halfstep::cli
