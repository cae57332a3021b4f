#include "onnx_io/external_data.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/descriptor.h"
#include "base/machine_memory.h"
#include "base/parse_number.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include <halfstep/base/dtype.h>
#include <halfstep/base/error.h>
#include <halfstep/graph/shape.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {
namespace {

// Tied tensors may share a region of the file; many references to the same region are an attack on memory.
constexpr std::uint64_t kMaxClaimsOfFile = 16;

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

std::uint64_t number_in(const std::string& text, const std::string& key, const std::string& tensor) {
  const auto number = parse_number<std::uint64_t>(text);
  if (!number) bad_reference("a whole number as the " + key + " of external data", "'" + text + "'", tensor);
  return *number;
}

Reference parse_reference(const onnx::TensorProto& tensor) {
  Reference reference;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") reference.location = entry.value();
    if (entry.key() == "offset") reference.offset = number_in(entry.value(), "offset", tensor.name());
    if (entry.key() == "length") {
      reference.length = number_in(entry.value(), "length", tensor.name());
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
  for (std::size_t i = 0; i < parts.size() && current; ++i) {
    const bool last = i + 1 == parts.size();
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (last ? O_NONBLOCK : O_DIRECTORY);
    current = Descriptor(::openat(current.get(), parts[i].c_str(), flags));
  }
  if (!current) {
    const int error = errno;
    // A symbolic link fails with ELOOP, or with ENOTDIR if a folder is expected.
    if (error == ELOOP) bad_reference("external data that is no symbolic link", "a link at '" + location + "'", tensor);
    if (error == ENOTDIR)
      bad_reference("external data in real folders, not behind a file or a symbolic link", "'" + location + "'",
                    tensor);
    bad_reference("a readable external data file", "'" + location + "': " + errno_text(error), tensor);
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
  const Shape shape = shape_from_proto(tensor);
  const std::optional<std::size_t> bytes = known_bytes_of(static_cast<DType>(type), shape);
  if (!bytes) bad_reference("a shape whose size fits 63 bits", shape.to_string(), tensor.name());
  return *bytes;
}

void read_region(const OpenFile& file, std::uint64_t offset, std::uint64_t length, const std::string& tensor,
                 void* to) {
  const std::int64_t got = read_fully(file.descriptor.get(), offset, to, length);
  if (got != static_cast<std::int64_t>(length))
    throw_failure("to read external data of tensor '" + tensor + "'",
                  got < 0 ? errno_text() : "the file shrank meanwhile", "try again");
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

}  // namespace

void check_external_location(const std::string& location, const std::string& tensor) {
  bool plain =
      !location.empty() && location.find('\0') == std::string::npos && location.find('\\') == std::string::npos;
  for (const std::string& part : components(location)) plain = plain && !part.empty() && part != "." && part != "..";
  if (!plain)
    bad_reference("external data at a relative path without '.' and '..'", "location '" + location + "'", tensor);
}

std::filesystem::path data_folder(const onnx::ModelProto& model, const std::filesystem::path& path) {
  std::error_code none;
  std::filesystem::path folder = path.parent_path();
  if (!std::filesystem::is_symlink(path, none)) return folder;
  std::optional<std::string> location;
  for_each_tensor(const_cast<onnx::ModelProto&>(model), [&](const onnx::TensorProto& tensor) {
    if (!location && tensor.data_location() == onnx::TensorProto::EXTERNAL) location = parse_reference(tensor).location;
  });
  if (!location || std::filesystem::exists(std::filesystem::symlink_status(folder / *location, none))) return folder;
  return through_links(path).parent_path();
}

std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                                      const TakeExternal& take) {
  std::uint64_t all = 0;  // below 2^64: as many bytes as the files have, a few times over
  const auto visit = [&](onnx::TensorProto& tensor, OpenFile& file, std::uint64_t offset, std::uint64_t bytes) {
    if ((all += bytes) > machine_memory())
      throw_failure("external data that fit into this machine's memory", "more, at tensor '" + tensor.name() + "'",
                    "check the model's shapes, or use a machine with more memory");
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
    const Shape shape = shape_from_proto(tensor);
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

}  // namespace halfstep
