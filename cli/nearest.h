// Suggestions for mistyped names.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace halfstep::cli {

/// The element of `names` that is closest to `typed`: with a few typing errors, as a prefix, or as one of its words
/// ("batch" for "batch-size"). Nothing if none is close.
std::optional<std::string> nearest(std::string_view typed, const std::vector<std::string>& names);

/// "did you mean 'NAME'?" for the closest one, or else `otherwise`.
std::string did_you_mean(std::string_view typed, const std::vector<std::string>& names, std::string otherwise = {});

}  // namespace halfstep::cli
