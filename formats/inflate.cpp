#include "formats/inflate.h"

#include <algorithm>
#include <atomic>
#include <type_traits>
#include <vector>

#include <fmt/format.h>
#include <zlib.h>

#include "formats/temporary_file.h"
#include "graph/crc.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr int kGzipWindow = MAX_WBITS + 16;  // zlib: a gzip header and trailer around the stream
constexpr int kRawWindow = -MAX_WBITS;       // zlib: no header at all
constexpr std::size_t kChunk = std::size_t{1} << 18;

[[noreturn]] void throw_corrupt(const std::string& name, const std::string& why) {
  throw_input_error("a whole compressed file", name + " " + why, "get the file again");
}

constexpr std::uint64_t kAlwaysUnpacked = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxRatio = 256;  // for uncompressed numbers; deflate itself can reach 1032
std::atomic<std::uint64_t> max_unpacked = 0;

void check_unpacked(std::uint64_t unpacked, std::uint64_t compressed, const std::string& name) {
  const std::uint64_t set = max_unpacked;
  const std::uint64_t limit = set > 0 ? set : std::max(kAlwaysUnpacked, compressed * kMaxRatio);
  if (unpacked > limit)
    throw_input_error(fmt::format("a file that unpacks to at most {} bytes", limit),
                      fmt::format("{}, whose {} bytes unpack to at least {}", name, compressed, unpacked),
                      "give a file that you trust more room with --max-unpacked BYTES");
}

/// One zlib decompression state.
class Inflater {
 public:
  explicit Inflater(int window_bits) {
    if (::inflateInit2(&stream_, window_bits) != Z_OK) throw_failure("memory to decompress with", "none", "free some");
  }
  ~Inflater() { ::inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  /// Inflates one stream at the start of `in`, and calls sink(data, size) with the output; returns the size of the used
  /// input. A sink may return false to end it there.
  template <class Sink>
  std::size_t run(std::span<const std::byte> in, const std::string& name, Sink&& sink) {
    ::inflateReset(&stream_);
    std::vector<Bytef> out(kChunk);
    std::size_t used = 0;
    for (;;) {
      const auto available = static_cast<uInt>(std::min<std::size_t>(in.size() - used, kChunk));
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data() + used));
      stream_.avail_in = available;
      stream_.next_out = out.data();
      stream_.avail_out = static_cast<uInt>(out.size());
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      used += available - stream_.avail_in;
      const std::size_t produced = out.size() - stream_.avail_out;
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        throw_corrupt(name, std::string("is corrupt (") + (stream_.msg ? stream_.msg : "zlib error") + ")");
      if (!goes_on(sink, out.data(), produced) || status == Z_STREAM_END) return used;
      if (produced == 0 && used == in.size()) throw_corrupt(name, "is truncated");
    }
  }

 private:
  template <class Sink>
  static bool goes_on(Sink& sink, const Bytef* data, std::size_t size) {
    if constexpr (std::is_void_v<decltype(sink(data, size))>)
      return sink(data, size), true;
    else
      return sink(data, size);
  }

  z_stream stream_{};
};

}  // namespace

void set_max_unpacked(std::uint64_t bytes) { max_unpacked = bytes; }

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

SharedBytes inflate_gzip(const SharedBytes& compressed, const std::string& name) {
  TemporaryFile file;
  Inflater inflater(kGzipWindow);
  for (std::span<const std::byte> rest = compressed.span(); !rest.empty();) {
    if (!is_gzip(rest)) throw_corrupt(name, "goes on behind its end with what is not gzip");
    rest = rest.subspan(inflater.run(rest, name, [&](const Bytef* data, std::size_t size) {
      check_unpacked(file.size() + size, compressed.size(), name);
      file.append(data, size);
    }));
    // Tapes are filled up with zeros.
    const auto more = std::find_if(rest.begin(), rest.end(), [](std::byte b) { return b != std::byte{0}; });
    rest = rest.subspan(static_cast<std::size_t>(more - rest.begin()));
  }
  compressed.check_intact(name);
  return file.finish();
}

SharedBytes inflate_raw(const SharedBytes& compressed, std::uint64_t size, std::uint32_t crc, const std::string& name) {
  check_unpacked(size, compressed.size(), name);
  TemporaryFile file;
  file.check_room(size);
  std::uint32_t found_crc = 0;
  Inflater(kRawWindow).run(compressed.span(), name, [&](const Bytef* data, std::size_t bytes) {
    if (bytes > size - file.size()) throw_corrupt(name, "holds more than its header says");
    found_crc = crc_of(data, bytes, found_crc);
    file.append(data, bytes);
  });
  compressed.check_intact(name);
  if (file.size() != size) throw_corrupt(name, "holds less than its header says");
  if (found_crc != crc) throw_corrupt(name, "fails its checksum");
  return file.finish();
}

std::string beginning_of_raw(const SharedBytes& compressed, std::size_t most, const std::string& name) {
  std::string beginning;
  Inflater(kRawWindow).run(compressed.span(), name, [&](const Bytef* data, std::size_t bytes) {
    beginning.append(reinterpret_cast<const char*>(data), std::min(bytes, most - beginning.size()));
    return beginning.size() < most;
  });
  compressed.check_intact(name);
  return beginning;
}

}  // namespace halfstep
