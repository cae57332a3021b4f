#include "passes/step/parameter_groups.h"

#include <algorithm>

#include <fmt/format.h>
#include <fnmatch.h>

#include "base/parse_number.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/step/parameter_group.h>

namespace halfstep {
namespace {

constexpr std::string_view kForm = "a parameter group as PATTERN:KEY=VALUE,...";

template <class T>
T required_number(std::string_view key, std::string_view text, std::string_view group) {
  const auto value = parse_number<T>(text);
  if (!value)
    throw_input_error(fmt::format("a {} for {} in '{}'", std::is_integral_v<T> ? "whole number" : "number", key, group),
                      fmt::format("'{}'", text), "write layer1.*:lr_factor=0.1,weight_decay=0");
  return *value;
}

}  // namespace

ParameterGroup parse_parameter_group(std::string_view text) {
  const std::size_t colon = text.rfind(':');  // names may have some
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == text.size())
    throw_input_error(std::string(kForm), fmt::format("'{}'", text), "write layer1.*:lr_factor=0.1,weight_decay=0");
  ParameterGroup group{.pattern = std::string(text.substr(0, colon))};
  std::vector<std::string_view> seen;
  for (std::string_view rest = text.substr(colon + 1); !rest.empty();) {
    const std::size_t comma = rest.find(',');
    const std::string_view entry = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos || equals == 0)
      throw_input_error(std::string(kForm), fmt::format("'{}' in '{}'", entry, text),
                        "write layer1.*:lr_factor=0.1,weight_decay=0");
    const std::string_view key = entry.substr(0, equals), value = entry.substr(equals + 1);
    if (std::ranges::find(seen, key) != seen.end())
      throw_input_error("each key once in a parameter group", fmt::format("'{}' twice in '{}'", key, text), "omit one");
    seen.push_back(key);
    if (key == "lr_factor")
      group.lr_factor = required_number<double>(key, value, text);
    else if (key == "frozen_updates")
      group.frozen_updates = required_number<std::int64_t>(key, value, text);
    else
      group.numbers.emplace(key, required_number<double>(key, value, text));
  }
  return group;
}

std::string to_string(const ParameterGroup& group) {
  std::string text = group.pattern;
  char before = ':';
  const auto add = [&](std::string_view key, auto value) {
    text += fmt::format("{}{}={}", before, key, value);
    before = ',';
  };
  add("lr_factor", group.lr_factor);
  if (group.frozen_updates != 0) add("frozen_updates", group.frozen_updates);
  for (const auto& [name, value] : group.numbers) add(name, value);
  return text;
}

std::size_t group_of(std::span<const ParameterGroup> groups, const std::string& parameter) {
  const auto fits = std::ranges::find_if(
      groups, [&](const ParameterGroup& group) { return fnmatch(group.pattern.c_str(), parameter.c_str(), 0) == 0; });
  return static_cast<std::size_t>(fits - groups.begin());
}

void check_groups_have_members(std::span<const ParameterGroup> groups, const std::vector<std::string>& parameters) {
  std::vector<bool> found(groups.size() + 1);
  for (const std::string& parameter : parameters) found[group_of(groups, parameter)] = true;
  for (std::size_t i = 0; i < groups.size(); ++i)
    if (!found[i])
      throw_input_error(
          "a group with at least one parameter of its own", fmt::format("'{}'", groups[i].pattern),
          "halfstep inspect --parameters lists the parameters; each belongs to the first group that matches");
}

}  // namespace halfstep
