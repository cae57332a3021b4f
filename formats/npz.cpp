#include "formats/npz.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "formats/npy_header.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/npy.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {
namespace {

constexpr std::string_view kSuffix = ".npy";
constexpr std::size_t kMostHeaderBytes = std::size_t{1} << 17;  // NumPy's own reader takes headers of 10,000

std::string_view array_name(const ZipEntry& entry) {
  std::string_view name = entry.name;
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  return name;
}

/// A member that is opened by whoever first reads its rows.
class Later {
 public:
  Later(SharedBytes archive, ZipEntry entry, std::string name, Shape shape, DType dtype)
      : archive_(std::move(archive)),
        entry_(std::move(entry)),
        name_(std::move(name)),
        shape_(std::move(shape)),
        dtype_(dtype) {}

  /// May be called by several threads. Where it throws the next call tries again, which std::call_once does not do
  /// under the thread sanitizer.
  const DataArray& array() {
    const std::lock_guard lock(mutex_);
    if (!array_) array_ = opened();
    return *array_;
  }

 private:
  DataArray opened() const {
    DataArray array = parse_npy(open_zip_member(archive_, entry_, name_), name_);
    if (array.shape() != shape_ || array.dtype() != dtype_)
      throw_input_error(fmt::format("{} {} in {}", name_of(dtype_), shape_.to_string(), name_),
                        fmt::format("{} {}", name_of(array.dtype()), array.shape().to_string()),
                        "leave the file as it is while it is in use");
    return array;
  }

  const SharedBytes archive_;
  const ZipEntry entry_;
  const std::string name_;
  const Shape shape_;
  const DType dtype_;
  std::mutex mutex_;
  std::optional<DataArray> array_;
};

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

std::string NpzFile::full_name(std::string_view name) const { return fmt::format("{}[{}]", path_, name); }

DataArray NpzFile::open(std::string_view name) const {
  const std::string full = full_name(name);
  return parse_npy(open_zip_member(bytes_, entry_of(name), full), full);
}

DataArray NpzFile::open_later(std::string_view name) const {
  const ZipEntry& entry = entry_of(name);
  const std::string full = full_name(name);
  const NpyHeader header = read_npy_header(beginning_of_zip_member(bytes_, entry, kMostHeaderBytes, full), full);
  // A member that cannot hold its elements is refused now, before anybody makes room for rows of it.
  const std::optional<std::size_t> needed = known_bytes_of(header.dtype, header.shape);
  if (header.shape.rank() == 0 || !needed || entry.size < header.size || *needed > entry.size - header.size)
    return open(name);
  const RowType type{header.dtype, Shape(std::vector(header.shape.begin() + 1, header.shape.end()))};
  const auto later = std::make_shared<Later>(bytes_, entry, full, header.shape, header.dtype);
  return DataArray::made(full, type, header.shape[0],
                         [later](std::span<const std::int64_t> rows, const RowDraw& draw, void* out) {
                           later->array().read_rows(rows, out, draw);
                         });
}

const ZipEntry& NpzFile::entry_of(std::string_view name) const {
  for (const ZipEntry& entry : entries_)
    if (array_name(entry) == name) return entry;
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
