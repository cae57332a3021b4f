#include "formats/npz.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/base/error.h>
#include <halfstep/formats/npy.h>

namespace halfstep {
namespace {

constexpr std::string_view kSuffix = ".npy";

std::string_view array_name(const ZipEntry& entry) {
  std::string_view name = entry.name;
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  return name;
}

}  // namespace

NpzFile::NpzFile(const std::filesystem::path& path)
    : path_(path.string()), bytes_(SharedBytes::of_file(path)), entries_(read_zip_directory(bytes_, path_)) {}

std::vector<std::string> NpzFile::names() const {
  std::vector<std::string> result;
  for (const ZipEntry& entry : entries_) result.emplace_back(array_name(entry));
  return result;
}

bool NpzFile::contains(std::string_view name) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const ZipEntry& e) { return array_name(e) == name; });
}

DataArray NpzFile::open(std::string_view name) const {
  for (const ZipEntry& entry : entries_) {
    if (array_name(entry) != name) continue;
    const std::string full_name = fmt::format("{}[{}]", path_, name);
    return parse_npy(open_zip_member(bytes_, entry, full_name), full_name);
  }
  throw_input_error(fmt::format("an array named '{}' in {}", name, path_), fmt::format("{}", fmt::join(names(), ", ")),
                    "rename the arrays");
}

void write_npz(const std::filesystem::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays) {
  std::set<std::string_view> seen;
  for (const auto& [name, tensor] : arrays)
    if (!seen.insert(name).second) throw_input_error("arrays of different names", "two named " + name, "rename one");
  write_atomically(path, [&](FileWriter& file) {
    ZipWriter zip(file);
    for (const auto& [name, tensor] : arrays) {
      const std::string header = npy_header(tensor.dtype(), tensor.shape());
      zip.add(name + std::string(kSuffix), {{header.data(), header.size()}, {tensor.raw(), tensor.bytes()}});
    }
    zip.finish();
  });
}

}  // namespace halfstep
