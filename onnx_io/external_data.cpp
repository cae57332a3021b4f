#include "onnx_io/external_data.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <onnx/onnx_pb.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "onnx_io/outside.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include <halfstep/base/dtype.h>
#include <halfstep/base/error.h>
#include <halfstep/graph/shape.h>

namespace halfstep {
namespace {

// Tied tensors may share a region of the file; many references to the same region are an attack on memory.
constexpr std::uint64_t kMaxClaimsOfFile = 16;
constexpr std::uint64_t kAlignment = 64;
constexpr std::size_t kMaxMessageBytes = std::numeric_limits<std::int32_t>::max();

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct Reference {
  std::string location;
  std::uint64_t offset = 0;
  bool has_length = false;
  std::uint64_t length = 0;
};

struct OpenFile {
  Descriptor descriptor;
  std::uint64_t size = 0, claimed = 0;
  std::shared_ptr<const MappedFile> mapping = {};
};

[[noreturn]] void bad_reference(const std::string& required, const std::string& found, const std::string& tensor) {
  throw_input_error(required, found + " for tensor '" + tensor + "'",
                    "put the model's data files, as they were exported, into the model's folder or below it");
}

std::uint64_t parse_number(const std::string& text, const std::string& key, const std::string& tensor) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    bad_reference("a whole number as the " + key + " of external data", "'" + text + "'", tensor);
  return number;
}

Reference parse_reference(const onnx::TensorProto& tensor) {
  Reference reference;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") reference.location = entry.value();
    if (entry.key() == "offset") reference.offset = parse_number(entry.value(), "offset", tensor.name());
    if (entry.key() == "length") {
      reference.length = parse_number(entry.value(), "length", tensor.name());
      reference.has_length = true;
    }
  }
  return reference;
}

std::vector<std::string> components(const std::string& location) {
  std::vector<std::string> parts(1);
  for (char c : location) {
    if (c == '/')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

OpenFile open_contained(const std::filesystem::path& folder, const std::string& location, const std::string& tensor) {
  check_external_location(location, tensor);
  const std::string start = folder.empty() ? "." : folder.string();
  Descriptor current(::open(start.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::vector<std::string> parts = components(location);
  for (std::size_t i = 0; i < parts.size() && current.get() >= 0; ++i) {
    const bool last = i + 1 == parts.size();
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (last ? O_NONBLOCK : O_DIRECTORY);
    current = Descriptor(::openat(current.get(), parts[i].c_str(), flags));
  }
  if (current.get() < 0) {
    const int error = errno;
    // A symbolic link fails with ELOOP, or with ENOTDIR if a folder is expected.
    if (error == ELOOP) bad_reference("external data that is no symbolic link", "a link at '" + location + "'", tensor);
    if (error == ENOTDIR)
      bad_reference("external data in real folders, not behind a file or a symbolic link", "'" + location + "'",
                    tensor);
    bad_reference("a readable external data file", "'" + location + "': " + std::generic_category().message(error),
                  tensor);
  }
  struct stat status {};
  if (::fstat(current.get(), &status) != 0 || !S_ISREG(status.st_mode))
    bad_reference("a regular file as external data", "'" + location + "', which is none", tensor);
  if (status.st_nlink > 1)
    bad_reference("an external data file with one name only",
                  "'" + location + "', which has " + std::to_string(status.st_nlink) + " hard links", tensor);
  return {.descriptor = std::move(current), .size = static_cast<std::uint64_t>(status.st_size)};
}

std::uint64_t expected_bytes(const onnx::TensorProto& tensor) {
  const int type = tensor.data_type();
  const std::size_t bits = type > 0 && type <= static_cast<int>(DType::i2) ? bits_of(static_cast<DType>(type)) : 0;
  if (bits == 0)
    bad_reference("a numeric element type for external data", "type " + std::to_string(type), tensor.name());
  const Shape shape(std::vector<std::int64_t>(tensor.dims().begin(), tensor.dims().end()));
  std::int64_t total = 0;
  if (!shape.is_static() || __builtin_mul_overflow(shape.count(), static_cast<std::int64_t>(bits), &total))
    bad_reference("a shape whose size fits 63 bits", shape.to_string(), tensor.name());
  return (static_cast<std::uint64_t>(total) + 7) / 8;
}

void read_region(const OpenFile& file, std::uint64_t offset, std::uint64_t length, const std::string& tensor,
                 void* to) {
  std::uint64_t done = 0;
  while (done < length) {
    const ssize_t got = ::pread(file.descriptor.get(), static_cast<std::byte*>(to) + done, length - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw_failure("to read external data of tensor '" + tensor + "'",
                    got < 0 ? std::generic_category().message(errno) : "the file shrank meanwhile", "try again");
    done += static_cast<std::uint64_t>(got);
  }
}

void map(OpenFile& file) {
  if (file.mapping || file.size == 0) return;
  file.mapping = std::make_shared<const MappedFile>(file.descriptor.get(), file.size);
}

// Calls `visit(tensor, file, offset, bytes)` for every external tensor, after checking that its region is inside of the
// file. Returns the files.
template <class Visit>
std::vector<MappedData> for_each_external(onnx::ModelProto& model, const std::filesystem::path& folder,
                                          const Visit& visit) {
  std::map<std::string, OpenFile> files;
  for_each_tensor(model, [&](onnx::TensorProto& tensor) {
    if (tensor.data_location() != onnx::TensorProto::EXTERNAL) return;
    const Reference reference = parse_reference(tensor);
    auto it = files.find(reference.location);
    if (it == files.end())
      it = files.emplace(reference.location, open_contained(folder, reference.location, tensor.name())).first;
    OpenFile& file = it->second;
    const std::uint64_t expected = expected_bytes(tensor);
    if (reference.has_length && reference.length != expected)
      bad_reference("external data of " + std::to_string(expected) + " bytes, as type and shape say",
                    "length " + std::to_string(reference.length), tensor.name());
    if (reference.offset > file.size || expected > file.size - reference.offset)
      bad_reference("an external data file that holds " + std::to_string(expected) + " bytes from " +
                        std::to_string(reference.offset) + " on",
                    "'" + reference.location + "' of " + std::to_string(file.size) + " bytes", tensor.name());
    file.claimed += expected;
    if (file.claimed / kMaxClaimsOfFile > file.size)
      bad_reference("tensors that do not claim a data file many times over", "'" + reference.location + "'",
                    tensor.name());
    tensor.clear_data_location();
    tensor.clear_external_data();
    visit(tensor, file, reference.offset, expected);
  });
  std::vector<MappedData> result;
  for (const auto& [location, file] : files) result.push_back({folder / location, file.mapping});
  return result;
}

constexpr std::string_view kDataSuffix = ".data";

bool is_taken(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

// The first of NAME.data, NAME.data2, … for a model at `path` that does not exist.
std::filesystem::path free_data_file(const std::filesystem::path& path) {
  std::filesystem::path file = path;
  file += kDataSuffix;
  for (int i = 2; is_taken(file); ++i) (file = path).concat(kDataSuffix).concat(std::to_string(i));
  return file;
}

// The file was read to its end and does not hold these bytes: a model with its tensors in its message need not be taken
// apart to see that it names no other file.
bool lacks(const Descriptor& file, std::string_view bytes) {
  std::vector<char> window(std::size_t{1} << 20);
  std::size_t kept = 0;  // the end of what has been searched, where the bytes may begin
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(file.get(), window.data() + kept, window.size() - kept, at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    at += got;
    const std::string_view searched(window.data(), kept + static_cast<std::size_t>(got));
    if (::memmem(searched.data(), searched.size(), bytes.data(), bytes.size())) return false;
    kept = std::min(searched.size(), bytes.size() - 1);
    std::memmove(window.data(), searched.data() + searched.size() - kept, kept);
  }
}

// The locations of external data that the model at `path` names, if there is one.
std::set<std::string> locations_of(const std::filesystem::path& path) {
  onnx::ModelProto model;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return {};
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxMessageBytes) return {};
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::set<std::string> locations;
  if (file.get() < 0 || lacks(file, "location")) return {};
  if (!model.ParseFromFileDescriptor(file.get()) || !model.has_graph()) return {};
  for_each_tensor(model, [&](const onnx::TensorProto& tensor) {
    for (const auto& entry : tensor.external_data())
      if (entry.key() == "location") locations.insert(entry.value());
  });
  return locations;
}

// The data files of the model at `path` that follow its naming scheme, including one that a killed process was about to
// create.
std::vector<std::filesystem::path> own_data_files(const std::filesystem::path& path) {
  const std::string prefix = path.filename().string().append(kDataSuffix);
  std::set<std::string> locations = locations_of(path);
  for (const std::filesystem::path& unplaced : temporaries_of(path)) locations.merge(locations_of(unplaced));
  std::vector<std::filesystem::path> files;
  for (const std::string& location : locations)
    if (location.starts_with(prefix) && location.find_first_not_of("0123456789", prefix.size()) == std::string::npos)
      files.push_back(path.parent_path() / location);
  return files;
}

// Another model in the folder of the one at `path` refers to this location.
bool is_shared(const std::filesystem::path& path, const std::string& location) {
  std::error_code error;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".onnx" && entry->path().filename() != path.filename() &&
        locations_of(entry->path()).contains(location))
      return true;
  return false;
}

// Removes temporary data files of killed processes, under the names used in turn.
void sweep_data(const std::filesystem::path& path) {
  for (const char* number : {"", "2", "3"})
    sweep_temporaries(std::filesystem::path(path).concat(kDataSuffix).concat(number));
}

void remove_replaced(const std::vector<std::filesystem::path>& replaced, const std::filesystem::path& path,
                     const std::vector<std::filesystem::path>& in_use) {
  std::error_code ignored;
  for (const std::filesystem::path& old : replaced) {
    const auto is_same = [&](const std::filesystem::path& file) {
      return std::filesystem::equivalent(file, old, ignored);
    };
    if (std::none_of(in_use.begin(), in_use.end(), is_same) && !is_shared(path, old.filename().string()))
      std::filesystem::remove(old, ignored);
  }
}

// The data of every initializer of at least `at_least` bytes, to be written to `file`; `model` then refers to it there.
std::unique_ptr<PendingFile> prepare_external_data(onnx::ModelProto& model, const std::filesystem::path& file,
                                                   std::uint64_t at_least, const OutsideTensors& outside,
                                                   const std::filesystem::path& like) {
  const std::string location = file.filename().string();
  check_external_location(location, "(all)");
  struct Placed {
    onnx::TensorProto* tensor;
    bool is_outside;
    std::uint64_t offset, bytes;
  };
  std::vector<Placed> placed;
  std::uint64_t position = 0;
  auto place = [&](onnx::TensorProto& tensor) {
    std::uint64_t bytes = outside.bytes ? outside.bytes(tensor) : 0;
    const bool is_outside = bytes > 0;
    if (!is_outside) {
      if (tensor.data_type() == onnx::TensorProto::STRING || tensor.ByteSizeLong() < at_least) return;
      if (!tensor.has_raw_data()) *tensor.mutable_raw_data() = tensor_to_proto(tensor_from_proto(tensor)).raw_data();
      bytes = tensor.raw_data().size();
      if (bytes == 0) return;
    }
    position = (position + kAlignment - 1) / kAlignment * kAlignment;
    placed.push_back({&tensor, is_outside, position, bytes});
    position += bytes;
  };
  for_each_graph(*model.mutable_graph(), [&](onnx::GraphProto& graph) {
    for (onnx::TensorProto& tensor : *graph.mutable_initializer()) place(tensor);
  });
  const auto write = [&](FileWriter& writer) {
    const std::string padding(kAlignment, '\0');
    for (const Placed& p : placed) {
      writer.write(padding.data(), static_cast<std::size_t>(p.offset - writer.position()));
      if (p.is_outside)
        outside.write(*p.tensor, writer);
      else
        writer.write(p.tensor->raw_data());
    }
  };
  auto pending = std::make_unique<PendingFile>(file, write, like);
  for (const Placed& p : placed) {
    p.tensor->clear_raw_data();
    p.tensor->clear_float_data();
    p.tensor->clear_double_data();
    p.tensor->clear_int32_data();
    p.tensor->clear_int64_data();
    p.tensor->clear_uint64_data();
    p.tensor->clear_external_data();
    p.tensor->set_data_location(onnx::TensorProto::EXTERNAL);
    auto add = [&](const char* key, std::string value) {
      auto* entry = p.tensor->add_external_data();
      entry->set_key(key);
      entry->set_value(std::move(value));
    };
    add("location", location);
    add("offset", std::to_string(p.offset));
    add("length", std::to_string(p.bytes));
  }
  return pending;
}

}  // namespace

void check_external_location(const std::string& location, const std::string& tensor) {
  bool plain =
      !location.empty() && location.find('\0') == std::string::npos && location.find('\\') == std::string::npos;
  for (const std::string& part : components(location)) plain = plain && !part.empty() && part != "." && part != "..";
  if (!plain)
    bad_reference("external data at a relative path without '.' and '..'", "location '" + location + "'", tensor);
}

std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder) {
  return read_external_data(model, folder, TakeExternal());
}

std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                                      const TakeExternal& take) {
  const auto visit = [&](onnx::TensorProto& tensor, OpenFile& file, std::uint64_t offset, std::uint64_t bytes) {
    const auto read = [&, name = tensor.name()](void* to) { read_region(file, offset, bytes, name, to); };
    if (take && take(tensor, bytes, read)) return;
    std::string elements(bytes, '\0');
    read(elements.data());
    tensor.set_raw_data(std::move(elements));
  };
  std::vector<std::filesystem::path> files;
  for (const MappedData& file : for_each_external(model, folder, visit)) files.push_back(file.path);
  return files;
}

std::vector<MappedData> map_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                          const std::function<void(onnx::TensorProto&, Tensor, bool mapped)>& take) {
  const auto visit = [&](onnx::TensorProto& tensor, OpenFile& file, std::uint64_t offset, std::uint64_t) {
    const auto dtype = static_cast<DType>(tensor.data_type());
    const Shape shape(std::vector<std::int64_t>(tensor.dims().begin(), tensor.dims().end()));
    if (offset % std::max<std::size_t>(1, bits_of(dtype) / 8) != 0) {  // elements must be aligned
      Tensor copy(dtype, shape);
      read_region(file, offset, copy.bytes(), tensor.name(), copy.raw());
      return take(tensor, std::move(copy), false);
    }
    map(file);
    // The view is never written through.
    auto* data = file.mapping ? const_cast<std::byte*>(file.mapping->data() + offset) : nullptr;
    take(tensor, Tensor::view(dtype, shape, data, std::const_pointer_cast<MappedFile>(file.mapping)), true);
  };
  return for_each_external(model, folder, visit);
}

void write_external_data(onnx::ModelProto& model, const std::filesystem::path& file, std::uint64_t at_least,
                         const OutsideTensors& outside) {
  prepare_external_data(model, file, at_least, outside, file)->place();
}

void write_model_in_one(const FileContent& content, const std::filesystem::path& path, Durability durability,
                        const std::vector<std::filesystem::path>& in_use) {
  const std::vector<std::filesystem::path> replaced = own_data_files(path);
  sweep_data(path);
  write_atomically(path, content, replaced.empty() ? durability : Durability::on_return);
  remove_replaced(replaced, path, in_use);
}

void write_model_in_one(std::string_view bytes, const std::filesystem::path& path, Durability durability,
                        const std::vector<std::filesystem::path>& in_use) {
  write_model_in_one([bytes](FileWriter& writer) { writer.write(bytes); }, path, durability, in_use);
}

std::uint64_t write_model_with_data(onnx::ModelProto model, const std::filesystem::path& path,
                                    const OutsideTensors& outside, const std::vector<std::filesystem::path>& in_use) {
  const std::vector<std::filesystem::path> replaced = own_data_files(path);
  sweep_data(path);
  const std::filesystem::path data_path = free_data_file(path);
  const std::unique_ptr<PendingFile> data = prepare_external_data(model, data_path, 1024, outside, path);
  const std::string bytes = serialize_message(model);
  PendingFile message(path, [&](FileWriter& writer) { writer.write(bytes); });
  data->place();
  try {
    message.place();
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(data_path, ignored);
    throw;
  }
  remove_replaced(replaced, path, in_use);
  std::error_code error;
  const std::uintmax_t data_bytes = std::filesystem::file_size(data_path, error);
  return bytes.size() + (error ? 0 : data_bytes);
}

std::string serialize_message(const onnx::ModelProto& model) {
  const std::size_t size = model.ByteSizeLong();
  std::string bytes;
  if (size > kMaxMessageBytes || !model.SerializeToString(&bytes))
    throw_failure("a model of at most 2 GB in one file", std::to_string(size) + " bytes",
                  "let its tensors go to external data");
  return bytes;
}

}  // namespace halfstep
