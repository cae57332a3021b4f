#include "executors/cudnn/entry_cache.h"

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/cache_folder.h"

namespace halfstep::cudnn {
namespace {

namespace fs = std::filesystem;

std::uint64_t hash_of(std::string_view bytes) {  // FNV-1a
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

fs::path path_of(const fs::path& folder, const std::string& key) {
  return folder / fmt::format("{:016x}.bin", hash_of(key));
}

}  // namespace

// A file is the key, the value and the value's hash.
std::vector<char> read_entry(const fs::path& folder, const std::string& key) {
  std::ifstream file(path_of(folder, key), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  constexpr std::size_t kEnd = 16;
  if (bytes.size() < key.size() + kEnd || !std::string_view(bytes).starts_with(key)) return {};
  const std::string_view value = std::string_view(bytes).substr(key.size(), bytes.size() - key.size() - kEnd);
  if (std::string_view(bytes).substr(bytes.size() - kEnd) != fmt::format("{:016x}", hash_of(value))) return {};
  return {value.begin(), value.end()};
}

bool write_entry(const fs::path& folder, const std::string& key, const std::vector<char>& value) {
  const std::string_view text(value.data(), value.size());
  try {
    fs::create_directories(folder);
    write_atomically(path_of(folder, key), key + std::string(text) + fmt::format("{:016x}", hash_of(text)),
                     Durability::soon);
  } catch (const std::exception&) {  // made again next time
    return false;
  }
  return true;
}

fs::path kernel_cache_folder() {
  if (const char* own = std::getenv("HALFSTEP_KERNEL_CACHE"); own && *own) return own;
  const fs::path caches = cache_folder();
  return caches.empty() ? caches : caches / "kernels";
}

}  // namespace halfstep::cudnn
