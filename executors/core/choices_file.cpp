#include "executors/core/choices_file.h"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <fstream>
#include <iterator>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace halfstep::core {

namespace fs = std::filesystem;

ChoicesFile read_choices(const fs::path& file) try {
  ChoicesFile read;
  if (std::error_code ignored; !fs::is_regular_file(file, ignored)) return read;
  std::ifstream in(file, std::ios::binary);
  const auto json = nlohmann::json::parse(std::string(std::istreambuf_iterator<char>(in), {}), nullptr, false);
  read.is_damaged = !json.is_object();
  if (read.is_damaged) return read;
  for (const auto& [machine, entries] : json.items()) {
    if (!entries.is_object()) continue;
    for (const auto& [key, name] : entries.items())
      if (name.is_string()) read.names[machine][key] = name.get<std::string>();
  }
  return read;
} catch (const std::exception&) {  // a disk that fails, a file that is larger than memory
  return {.is_damaged = true};
}

std::string remark_on_choices(const fs::path& file, const std::string& machine) {
  const ChoicesFile read = read_choices(file);
  if (read.is_damaged) return fmt::format("{} is damaged, and made again", file.string());
  const std::size_t end = machine.find(';');
  const auto is_of_device = [&](const auto& each) { return each.first.starts_with(machine.substr(0, end + 1)); };
  if (read.names.contains(machine) || end == std::string::npos || std::ranges::none_of(read.names, is_of_device))
    return {};
  return fmt::format("{} is of other versions, and what it holds is measured again", file.string());
}

std::string refusal_to_keep(const fs::path& file) {
  if (file.empty()) return "there is no cache folder: set XDG_CACHE_HOME or HOME";
  const fs::path folder = file.parent_path();
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (!failed && ::access(folder.c_str(), W_OK) != 0) failed = {errno, std::generic_category()};
  return failed ? fmt::format("{}: {}", folder.string(), failed.message()) : "";
}

}  // namespace halfstep::core
