#include "data/shared_bytes.h"

#include <atomic>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/inflate.h"
#include "data/posix.h"
#include "graph/error.h"

namespace halfstep {

struct SharedBytes::Mapping {
  void* address;
  std::size_t size;
  std::atomic<std::size_t> paged_in{0};

  Mapping(void* a, std::size_t s) : address(a), size(s) {}
  ~Mapping() { ::munmap(address, size); }
};

SharedBytes SharedBytes::of_file(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not wait for ever.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw_input_error("a readable file", path.string() + ": " + errno_text(), "check the path");
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw_input_error("a regular file", path.string() + " is something else", "give the path of a data file");
  }
  try {
    SharedBytes bytes = of_descriptor(descriptor, static_cast<std::size_t>(status.st_size));
    ::close(descriptor);
    return bytes;
  } catch (...) {
    ::close(descriptor);
    throw;
  }
}

SharedBytes SharedBytes::of_descriptor(int descriptor, std::size_t size) {
  SharedBytes result;
  if (size == 0) return result;
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (address == MAP_FAILED)
    throw_failure("a file that can be mapped into memory", errno_text(),
                  "check the limits on address space (ulimit -v)");
  result.mapping_ = std::make_shared<Mapping>(address, size);
  result.bytes_ = {static_cast<const std::byte*>(address), size};
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

void SharedBytes::note_paged_in(std::size_t bytes) const {
  if (!mapping_ || mapping_->size <= kResidentBudget) return;
  if (mapping_->paged_in.fetch_add(bytes, std::memory_order_relaxed) + bytes < kResidentBudget) return;
  mapping_->paged_in.store(0, std::memory_order_relaxed);
  ::madvise(mapping_->address, mapping_->size, MADV_DONTNEED);
}

SharedBytes open_maybe_gzip(const std::filesystem::path& path) {
  SharedBytes bytes = SharedBytes::of_file(path);
  return is_gzip(bytes.span()) ? inflate_gzip(bytes, path.string()) : bytes;
}

}  // namespace halfstep
