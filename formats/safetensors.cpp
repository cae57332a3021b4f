#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "base/descriptor.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "tensor bytes are written as they lie in memory");

constexpr std::uint64_t kLargestHeader = 100'000'000;  // the format's own limit
constexpr int kDeepest = 4;                            // nesting of a valid header: header, tensor, list

constexpr std::array<std::pair<std::string_view, DType>, 13> kTypes{{
    {"F64", DType::f64},
    {"F32", DType::f32},
    {"F16", DType::f16},
    {"BF16", DType::bf16},
    {"I64", DType::i64},
    {"I32", DType::i32},
    {"I16", DType::i16},
    {"I8", DType::i8},
    {"U64", DType::u64},
    {"U32", DType::u32},
    {"U16", DType::u16},
    {"U8", DType::u8},
    {"BOOL", DType::boolean},
}};

DType dtype_of_tag(std::string_view tag) {
  for (const auto& [name, dtype] : kTypes)
    if (name == tag) return dtype;
  return DType::undefined;
}

std::string_view tag_of_dtype(DType dtype) {
  for (const auto& [name, type] : kTypes)
    if (type == dtype) return name;
  return {};
}

/// An open file of known size; all errors name it.
class Source {
 public:
  explicit Source(const fs::path& path) : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (!file_) {
      if (errno == ENOENT || errno == ENOTDIR) refuse("a safetensors file", "no such file");
      fail();
    }
    struct stat status;
    if (::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode))
      refuse("a regular file", "a folder or a device");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  std::uint64_t size() const { return size_; }

  void read(std::uint64_t offset, void* to, std::size_t bytes) const {
    const std::int64_t got = read_fully(file_.get(), offset, to, bytes);
    if (got < 0) fail();
    if (static_cast<std::size_t>(got) < bytes)
      refuse("a file that keeps its size while it is read", "it became shorter");
  }

  [[noreturn]] void refuse(const std::string& required, const std::string& found) const {
    throw_input_error(fmt::format("{}: {}", path_.string(), required), found,
                      "the file is damaged or of another format: use another copy");
  }

 private:
  [[noreturn]] void fail() const {
    throw_failure(fmt::format("{}: a readable file", path_.string()), errno_text(),
                  "check the path and its permissions");
  }

  fs::path path_;
  Descriptor file_;
  std::uint64_t size_ = 0;
};

json parse_header(const Source& file, const std::string& text) {
  if (text.empty() || text.front() != '{') file.refuse("a JSON object as header", "something else");
  std::vector<std::set<std::string>> keys;
  const json::parser_callback_t check = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kDeepest) file.refuse("a header of tensor descriptions", "deeply nested JSON");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
      file.refuse("every name once in the header", fmt::format("'{}' twice", value.get<std::string>()));
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& e) {
    file.refuse("a JSON header", e.what());
  }
}

/// The form of a value in an error.
std::string quote(const json& value) {
  std::string text = value.dump();
  constexpr std::size_t kLongest = 80;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "…";
  return text;
}

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  std::uint64_t begin, end;  // within the data
};

/// A header value that is a list of unsigned integers within the range of int64.
std::vector<std::int64_t> integers(const Source& file, const std::string& name, const json& entry, const char* key) {
  std::vector<std::int64_t> values;
  const auto it = entry.find(key);
  const bool is_list = it != entry.end() && it->is_array();
  if (is_list)
    for (const json& v : *it)
      if (v.is_number_unsigned() && v.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max())
        values.push_back(static_cast<std::int64_t>(v.get<std::uint64_t>()));
  if (!is_list || values.size() != it->size())
    file.refuse(fmt::format("a list of integers as {} of tensor '{}'", key, name),
                it == entry.end() ? "none" : quote(*it));
  return values;
}

Entry read_entry(const Source& file, const std::string& name, const json& entry, std::uint64_t data_bytes) {
  const auto fault = [&](const std::string& required, const std::string& found) {
    file.refuse(fmt::format("{} of tensor '{}'", required, name), found);
  };
  if (!entry.is_object()) fault("a JSON object as description", quote(entry));
  if (entry.size() != 3) fault("just dtype, shape and data_offsets in the description", quote(entry));
  const auto tag = entry.find("dtype");
  const DType dtype =
      tag != entry.end() && tag->is_string() ? dtype_of_tag(tag->get_ref<const std::string&>()) : DType::undefined;
  if (dtype == DType::undefined)
    fault("a known element type as dtype", tag == entry.end() ? std::string("none") : quote(*tag));
  const std::vector<std::int64_t> dims = integers(file, name, entry, "shape");
  const std::vector<std::int64_t> offsets = integers(file, name, entry, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || static_cast<std::uint64_t>(offsets[1]) > data_bytes)
    fault(fmt::format("offsets within the {} bytes of data as data_offsets", data_bytes), quote(entry["data_offsets"]));
  const std::optional<std::size_t> bytes = known_bytes_of(dtype, Shape(dims));
  if (!bytes) fault("a size below 2^63 bytes", quote(entry["shape"]));
  const auto found = static_cast<std::size_t>(offsets[1] - offsets[0]);
  if (*bytes != found) fault(fmt::format("{} bytes between the offsets", *bytes), fmt::format("{}", found));
  return {name, dtype, Shape(dims), static_cast<std::uint64_t>(offsets[0]), static_cast<std::uint64_t>(offsets[1])};
}

std::map<std::string, std::string> read_metadata(const Source& file, const json& metadata) {
  if (!metadata.is_object()) file.refuse("an object of strings as __metadata__", quote(metadata));
  std::map<std::string, std::string> result;
  for (const auto& [key, value] : metadata.items()) {
    if (!value.is_string()) file.refuse(fmt::format("a string as '{}' of __metadata__", key), quote(value));
    result[key] = value.get<std::string>();
  }
  return result;
}

void check_bools(const Source& file, const Entry& entry, const Tensor& tensor) {
  const auto* bytes = static_cast<const unsigned char*>(tensor.raw());
  if (std::any_of(bytes, bytes + tensor.bytes(), [](unsigned char b) { return b > 1; }))
    file.refuse(fmt::format("0 or 1 in every element of bool tensor '{}'", entry.name), "another value");
}

struct Contents {
  std::map<std::string, std::string> metadata;
  std::vector<Entry> entries;  // as they lie
  std::uint64_t data_start = 0;
};

Contents read_contents(const Source& file) {
  std::uint64_t header_bytes = 0;
  if (file.size() < kSafetensorsPrefix) file.refuse("at least 8 bytes", fmt::format("{}", file.size()));
  file.read(0, &header_bytes, kSafetensorsPrefix);
  if (header_bytes > kLargestHeader || header_bytes > file.size() - kSafetensorsPrefix)
    file.refuse("a header that lies within the file",
                fmt::format("a header of {} bytes in a file of {}", header_bytes, file.size()));
  std::string text(header_bytes, '\0');
  file.read(kSafetensorsPrefix, text.data(), header_bytes);
  const json header = parse_header(file, text);
  Contents result;
  result.data_start = kSafetensorsPrefix + header_bytes;
  const std::uint64_t data_bytes = file.size() - result.data_start;
  std::vector<Entry>& entries = result.entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__")
      result.metadata = read_metadata(file, value);
    else
      entries.push_back(read_entry(file, name, value, data_bytes));
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t reached = 0;
  for (const Entry& e : entries) {
    if (e.begin != reached)
      file.refuse(fmt::format("tensor '{}' to begin where the one before ends, at {}", e.name, reached),
                  fmt::format("it begins at {}", e.begin));
    reached = e.end;
  }
  if (reached != data_bytes)
    file.refuse(fmt::format("{} bytes of data, all of them of tensors", reached), fmt::format("{} bytes", data_bytes));
  return result;
}

}  // namespace

Safetensors read_safetensors(const fs::path& path) {
  const Source file(path);
  const Contents contents = read_contents(file);
  Safetensors result;
  result.metadata = contents.metadata;
  for (const Entry& e : contents.entries) {
    Tensor tensor(e.dtype, e.shape);
    file.read(contents.data_start + e.begin, tensor.raw(), tensor.bytes());
    if (e.dtype == DType::boolean) check_bools(file, e, tensor);
    result.tensors.emplace(e.name, std::move(tensor));
  }
  return result;
}

std::map<std::string, std::string> read_safetensors_metadata(const fs::path& path) {
  return read_contents(Source(path)).metadata;
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : path_(path.string()) {
  const Source file(path);
  Contents contents = read_contents(file);
  bytes_ = SharedBytes::of_file(path);
  if (bytes_.size() != file.size()) file.refuse("a file that keeps its size while it is read", "another size");
  for (Entry& e : contents.entries)
    places_.push_back(
        {std::move(e.name), e.dtype, std::move(e.shape), contents.data_start + e.begin, contents.data_start + e.end});
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const Place& place : places_) result.push_back(place.name);
  return result;
}

DataArray SafetensorsFile::open(std::string_view name) const {
  const auto place = std::ranges::find(places_, name, &Place::name);
  if (place == places_.end())
    throw_input_error(fmt::format("a tensor named '{}' in {}", name, path_),
                      fmt::format("{}", fmt::join(names(), ", ")), "rename the tensors");
  return DataArray(fmt::format("{}[{}]", path_, name), place->dtype, place->shape,
                   bytes_.part(place->begin, place->end - place->begin));
}

void write_safetensors(FileWriter& file, const Safetensors& content) {
  write_safetensors(file, LazyTensors::of(content.tensors), content.metadata);
}

std::string write_safetensors(FileWriter& file, const LazyTensors& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& type : tensors.types) {
    if (type.name == "__metadata__" || tag_of_dtype(type.dtype).empty())
      throw_input_error("tensors that the safetensors format can hold",
                        fmt::format("'{}' of type {}", type.name, name_of(type.dtype)), "rename or convert the tensor");
    order.push_back(&type);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const TensorInfo* a, const TensorInfo* b) { return bits_of(a->dtype) > bits_of(b->dtype); });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const TensorInfo* type : order) {
    const std::uint64_t end = offset + bytes_of(type->dtype, type->shape);
    header[type->name] = {
        {"dtype", tag_of_dtype(type->dtype)}, {"shape", type->shape.dims()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception& e) {
    throw_input_error("tensor names and metadata in UTF-8", e.what(), "rename the tensor");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kLargestHeader)
    throw_input_error(fmt::format("a header of at most {} bytes", kLargestHeader), fmt::format("{}", text.size()),
                      "write fewer tensors, or shorter names, to a file");
  const std::uint64_t header_bytes = text.size();
  file.write(&header_bytes, kSafetensorsPrefix);
  file.write(text);
  for (const TensorInfo* type : order) {
    const Tensor tensor = tensors.read(type->name);
    file.write(tensor.raw(), tensor.bytes());
  }
  return text;
}

void write_safetensors(const fs::path& path, const Safetensors& content) {
  write_atomically(path, [&](FileWriter& file) { write_safetensors(file, content); });
}

}  // namespace halfstep
