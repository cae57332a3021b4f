#include "onnx_io/replaced_data.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/descriptor.h"
#include "base/print.h"
#include "onnx_io/message.h"
#include "onnx_io/proto_walk.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;

// Whether something is as asked; nothing where that cannot be told.
using Known = std::optional<bool>;

/// A regular file, open. Nothing where there is none (a folder, a pipe), or it cannot be read.
struct OpenedFile {
  Descriptor descriptor;
  std::uint64_t size = 0;
  bool is_regular = false;

  bool is_open() const { return static_cast<bool>(descriptor); }
};

OpenedFile open_file(const fs::path& path) {
  OpenedFile file{Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK))};
  struct stat status {};
  if (!file.is_open() || ::fstat(file.descriptor.get(), &status) != 0) return {};
  file.is_regular = S_ISREG(status.st_mode);
  file.size = static_cast<std::uint64_t>(status.st_size);
  return file;
}

std::int64_t read_at(const OpenedFile& file, std::uint64_t at, char* to, std::size_t bytes) {
  return read_fully(file.descriptor.get(), at, to, bytes);
}

// The file was read to its end and does not hold these bytes: a model with its tensors in its message need not be taken
// apart to see that it names no other file.
bool lacks(const OpenedFile& file, std::string_view bytes) {
  std::vector<char> window(std::size_t{1} << 20);
  std::size_t kept = 0;  // the end of what has been searched, where the bytes may begin
  for (std::uint64_t at = 0;;) {
    const std::int64_t got = read_at(file, at, window.data() + kept, window.size() - kept);
    if (got <= 0) return got == 0;
    at += static_cast<std::uint64_t>(got);
    const std::string_view searched(window.data(), kept + static_cast<std::size_t>(got));
    if (::memmem(searched.data(), searched.size(), bytes.data(), bytes.size())) return false;
    kept = std::min(searched.size(), bytes.size() - 1);
    std::memmove(window.data(), searched.data() + searched.size() - kept, kept);
  }
}

// The locations of external data that a model names.
std::optional<std::set<std::string>> locations_of(const OpenedFile& file) {
  if (lacks(file, "location")) return std::set<std::string>();
  onnx::ModelProto model;
  if (file.size > kMaxMessageBytes || ::lseek(file.descriptor.get(), 0, SEEK_SET) != 0 ||
      !model.ParseFromFileDescriptor(file.descriptor.get()) || !model.has_graph())
    return std::nullopt;
  std::set<std::string> locations;
  for_each_tensor(model, [&](const onnx::TensorProto& tensor) {
    for (const auto& entry : tensor.external_data())
      if (entry.key() == "location") locations.insert(entry.value());
  });
  return locations;
}

std::set<std::string> locations_at(const fs::path& path) {
  const OpenedFile file = open_file(path);
  return file.is_regular ? locations_of(file).value_or(std::set<std::string>()) : std::set<std::string>();
}

// The file is a sequence of protobuf fields from its first byte to its last, as every ONNX model is, and next to no
// other file. Only the heads of fields are read.
bool may_be_a_message(const OpenedFile& file) {
  std::uint64_t at = 0;
  while (at < file.size) {
    std::array<char, 20> head;  // two numbers of at most 10 bytes
    const std::int64_t got = read_at(file, at, head.data(), head.size());
    std::size_t used = 0;
    bool whole = true;
    const auto number = [&] {
      std::uint64_t value = 0;
      for (int shift = 0; shift < 64; shift += 7) {
        if (static_cast<std::int64_t>(used) >= got) break;
        const auto byte = static_cast<std::uint8_t>(head[used++]);
        value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
      }
      whole = false;
      return value;
    };
    const std::uint64_t tag = number(), kind = tag & 7;
    std::uint64_t skipped = 0;
    if (kind == 0) number();
    if (kind == 1) skipped = 8;
    if (kind == 2) skipped = number();
    if (kind == 5) skipped = 4;
    const bool is_field = whole && tag >= 8 && (kind <= 2 || kind == 5);
    if (!is_field || used > file.size - at || skipped > file.size - at - used) return false;
    at += used + skipped;
  }
  return file.size > 0;
}

bool has_mark(const OpenedFile& file) {
  std::array<char, kDataMark.size()> end;
  return file.is_regular && file.size >= end.size() &&
         read_at(file, file.size - end.size(), end.data(), end.size()) == static_cast<std::int64_t>(end.size()) &&
         std::string_view(end.data(), end.size()) == kDataMark;
}

// The model in this file, if it is one, names this data file. Where a folder above it is named too, that may be another
// file of the same name; nobody looks.
Known names_data(const fs::path& path, const std::string& data) {
  const OpenedFile file = open_file(path);
  if (!file.is_open()) return std::nullopt;
  if (!file.is_regular || has_mark(file)) return false;
  if (path.extension() != ".onnx" && !may_be_a_message(file)) return false;
  const std::optional<std::set<std::string>> locations = locations_of(file);
  if (!locations) return std::nullopt;
  return std::any_of(locations->begin(), locations->end(),
                     [&](const std::string& location) { return fs::path(location).filename() == data; });
}

// Another model in the folder of the one at `path` names this data file.
Known is_shared(const fs::path& path, const std::string& data) {
  std::error_code error;
  std::set<fs::path> own{path.filename(), data};
  for (const fs::path& unplaced : temporaries_of(path)) own.insert(unplaced.filename());
  bool certain = true;
  fs::directory_iterator entry(path.has_parent_path() ? path.parent_path() : ".", error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    if (own.contains(entry->path().filename())) continue;
    std::error_code no_file;
    if (!entry->is_regular_file(no_file)) continue;
    const Known names = names_data(entry->path(), data);
    if (names.value_or(false)) return true;
    certain = certain && names;
  }
  return certain && !error ? Known(false) : std::nullopt;
}

void say_kept(const fs::path& file, std::string_view why) {
  print_to(stderr, "{} stays, in which the replaced model kept its tensors: {}\n", file.string(), why);
}

}  // namespace

std::vector<fs::path> data_files_of(const fs::path& path) {
  const std::string prefix = path.filename().string().append(kDataSuffix);
  std::set<std::string> locations = locations_at(path);
  for (const fs::path& unplaced : temporaries_of(path)) locations.merge(locations_at(unplaced));
  std::vector<fs::path> files;
  for (const std::string& location : locations)
    if (location.starts_with(prefix) && location.find_first_not_of("0123456789", prefix.size()) == std::string::npos)
      files.push_back(path.parent_path() / location);
  return files;
}

void sweep_data(const fs::path& path) {
  for (const char* number : {"", "2", "3"}) sweep_temporaries(fs::path(path).concat(kDataSuffix).concat(number));
}

void remove_replaced(const std::vector<fs::path>& replaced, const fs::path& path, const std::vector<fs::path>& in_use) {
  std::error_code ignored;
  for (const fs::path& old : replaced) {
    const auto is_same = [&](const fs::path& file) { return fs::equivalent(file, old, ignored); };
    if (!fs::exists(old, ignored) || std::any_of(in_use.begin(), in_use.end(), is_same)) continue;
    if (!has_mark(open_file(old))) {
      say_kept(old, "halfstep did not write it");
      continue;
    }
    const Known shared = is_shared(path, old.filename().string());
    if (!shared) say_kept(old, "whether another model refers to it could not be told");
    if (shared == Known(false)) fs::remove(old, ignored);
  }
}

}  // namespace halfstep
