#include <algorithm>
#include <atomic>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/mapped_file.h"
#include "formats/inflate.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/shared_bytes.h>

namespace halfstep {

struct SharedBytes::Mapping {
  MappedFile file;
  std::atomic<std::size_t> paged_in{0};

  Mapping(int descriptor, std::size_t size) : file(descriptor, size) {}
};

SharedBytes SharedBytes::of_file(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe without a writer must not block.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) throw_input_error("a readable file", path.string() + ": " + errno_text(), "check the path");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw_input_error("a regular file", path.string() + " is something else", "give the path of a data file");
  return of_descriptor(file.get(), static_cast<std::size_t>(status.st_size));
}

SharedBytes SharedBytes::of_descriptor(int descriptor, std::size_t size) {
  SharedBytes result;
  if (size == 0) return result;
  result.mapping_ = std::make_shared<Mapping>(descriptor, size);
  result.bytes_ = {result.mapping_->file.data(), size};
  return result;
}

SharedBytes SharedBytes::of_memory(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  SharedBytes result;
  result.owner_ = std::move(owner);
  result.bytes_ = bytes;
  return result;
}

SharedBytes SharedBytes::part(std::size_t offset, std::size_t size) const {
  SharedBytes result = *this;
  result.bytes_ = bytes_.subspan(offset, size);
  return result;
}

std::size_t SharedBytes::intact() const {
  if (!mapping_) return bytes_.size();
  const auto first = static_cast<std::size_t>(bytes_.data() - mapping_->file.data());
  const std::size_t whole = mapping_->file.intact();
  return whole < first ? 0 : std::min(whole - first, bytes_.size());
}

void SharedBytes::check_intact(const std::string& name) const {
  if (const std::size_t found = intact(); found < bytes_.size()) throw_truncated(name, bytes_.size(), found);
}

void SharedBytes::note_paged_in(std::size_t bytes) const {
  if (!mapping_ || mapping_->file.size() <= kResidentBudget) return;
  if (mapping_->paged_in.fetch_add(bytes, std::memory_order_relaxed) + bytes < kResidentBudget) return;
  mapping_->paged_in.store(0, std::memory_order_relaxed);
  mapping_->file.drop_pages();
}

SharedBytes open_maybe_gzip(const std::filesystem::path& path) {
  SharedBytes bytes = SharedBytes::of_file(path);
  return is_gzip(bytes.span()) ? inflate_gzip(bytes, path.string()) : bytes;
}

}  // namespace halfstep
