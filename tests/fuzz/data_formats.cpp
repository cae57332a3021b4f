#include <filesystem>
#include <stdexcept>

#include <sys/mman.h>
#include <unistd.h>

#include "formats/idx.h"
#include "formats/image.h"
#include "formats/inflate.h"
#include "formats/npz.h"
#include "formats/safetensors.h"
#include "tests/fuzz/formats.h"
#include "tests/fuzz/seeds.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/csv.h>
#include <halfstep/formats/npy.h>

namespace halfstep::fuzz {
namespace {

constexpr std::uint64_t kMostUnpacked = 1 << 24;

/// A file that has no place on disk.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || write(descriptor_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw std::runtime_error("no file in memory");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

void read_array(const DataArray& array) {
  array.load();
  if (array.rows() == 0) return;
  std::vector<std::byte> row(2 * array.row_bytes());
  array.read_rows(std::vector<std::int64_t>{array.rows() - 1, 0}, row.data());
}

/// What `read` makes of a file of these bytes.
template <class Read>
void read_file(std::string_view bytes, const Read& read) {
  const MemoryFile file(bytes);
  set_max_unpacked(kMostUnpacked);
  try {
    read(file.path());
  } catch (const Error&) {
    return;
  }
}

void read_safetensors_file(std::string_view bytes) {
  read_file(bytes, [](const std::filesystem::path& path) {
    read_safetensors(path);
    const SafetensorsFile file(path);
    for (const std::string& name : file.names()) try {
        read_array(file.open(name));
      } catch (const Error&) {
        continue;
      }
  });
}

void read_npy(std::string_view bytes) {
  read_file(bytes, [](const std::filesystem::path& path) { read_array(open_npy(path)); });
}

void read_npz(std::string_view bytes) {
  read_file(bytes, [](const std::filesystem::path& path) {
    const NpzFile file(path);
    for (const std::string& name : file.names()) try {
        read_array(file.open_later(name));
        read_array(file.open(name));
      } catch (const Error&) {
        continue;
      }
  });
}

void read_csv(std::string_view bytes) {
  read_file(bytes, [](const std::filesystem::path& path) {
    const CsvTable table = open_csv(path);
    read_array(table.x);
    read_array(table.y);
  });
}

void read_idx(std::string_view bytes) {
  read_file(bytes, [](const std::filesystem::path& path) { read_array(open_idx(path)); });
}

void read_image(std::string_view bytes) {
  try {
    const Image image = decode_image({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "fuzz");
    std::vector<std::uint8_t> row(8 * 8 * 3);
    resize_and_cut(image, {.resized_height = 9, .resized_width = 8, .height = 8, .width = 8}, row.data());
  } catch (const Error&) {
    return;
  }
}

}  // namespace

const Format safetensors_format{"safetensors", read_safetensors_file, safetensors_seeds},
    npy_format{"npy", read_npy, npy_seeds}, npz_format{"npz", read_npz, npz_seeds},
    csv_format{"csv", read_csv, csv_seeds}, idx_format{"idx", read_idx, idx_seeds},
    image_format{"image", read_image, image_seeds};

}  // namespace halfstep::fuzz
