#include "formats/zip.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "formats/inflate.h"
#include "graph/crc.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint32_t kLocalHeader = 0x04034b50, kDirectoryHeader = 0x02014b50, kEndOfDirectory = 0x06054b50,
                        kEndOfDirectory64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr std::size_t kLocalHeaderSize = 30, kDirectoryHeaderSize = 46, kEndSize = 22, kEnd64Size = 56,
                      kLocatorSize = 20;
constexpr std::size_t kLongestComment = 0xffff;
constexpr std::uint16_t kZip64Extra = 0x0001, kEncrypted = 0x0001, kUtf8Names = 0x0800;
constexpr std::uint16_t kVersion = 20, kVersion64 = 45, kStored = 0, kDeflated = 8;
constexpr std::uint32_t kIn64 = 0xffffffffu;  // "see the ZIP64 field"
constexpr std::uint16_t kFirstOfJanuary1980 = 1 << 5 | 1;

[[noreturn]] void throw_malformed(const std::string& name, const std::string& what) {
  throw_input_error("a ZIP archive", name + " " + what, "the file is truncated or damaged: get or write it again");
}

/// Little-endian fields of an archive, with bounds checks.
class Fields {
 public:
  Fields(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  bool has(std::uint64_t offset, std::uint64_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }
  template <class T>
  T at(std::uint64_t offset) const {
    if (!has(offset, sizeof(T))) throw_malformed(name_, "ends early or points outside itself");
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  std::string text(std::uint64_t offset, std::size_t size) const {
    if (!has(offset, size)) throw_malformed(name_, "ends early or points outside itself");
    return {reinterpret_cast<const char*>(bytes_.data()) + offset, size};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& name_;
};

struct Directory {
  std::uint64_t offset = 0, size = 0, entries = 0;
};

Directory find_directory(const Fields& fields, std::size_t archive_size, const std::string& name) {
  if (archive_size < kEndSize) throw_malformed(name, fmt::format("is {} bytes long", archive_size));
  const std::size_t last = archive_size - kEndSize;
  const std::size_t first = last > kLongestComment ? last - kLongestComment : 0;
  std::size_t end = last + 1;
  while (end > first && fields.at<std::uint32_t>(end - 1) != kEndOfDirectory) --end;
  if (end == first) throw_malformed(name, "has no directory at its end");
  --end;
  if (end >= kLocatorSize && fields.at<std::uint32_t>(end - kLocatorSize) == kLocator64) {
    const auto end64 = fields.at<std::uint64_t>(end - kLocatorSize + 8);
    if (fields.at<std::uint32_t>(end64) != kEndOfDirectory64) throw_malformed(name, "has a bad ZIP64 directory");
    return {fields.at<std::uint64_t>(end64 + 48), fields.at<std::uint64_t>(end64 + 40),
            fields.at<std::uint64_t>(end64 + 32)};
  }
  return {fields.at<std::uint32_t>(end + 16), fields.at<std::uint32_t>(end + 12), fields.at<std::uint16_t>(end + 10)};
}

/// Replaces sizes and the offset equal to kIn64 by the entry's ZIP64 field, which contains only those, in this order.
void read_zip64_extra(const Fields& fields, std::uint64_t begin, std::uint64_t end, ZipEntry& entry) {
  while (end - begin >= 4) {
    const auto id = fields.at<std::uint16_t>(begin);
    const std::uint64_t next = begin + 4 + fields.at<std::uint16_t>(begin + 2);
    if (id == kZip64Extra) {
      std::uint64_t at = begin + 4;
      for (std::uint64_t* field : {&entry.size, &entry.compressed_size, &entry.header_offset}) {
        if (*field != kIn64 || at + 8 > next) continue;
        *field = fields.at<std::uint64_t>(at);
        at += 8;
      }
    }
    if (next > end) return;
    begin = next;
  }
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::uint32_t clipped(std::uint64_t value) { return static_cast<std::uint32_t>(std::min<std::uint64_t>(value, kIn64)); }

/// The common part of local and directory headers: from the version to the length of the extra field.
void put_shared_fields(std::string& out, const ZipEntry& entry, std::size_t extra_size) {
  put<std::uint16_t>(out, extra_size ? kVersion64 : kVersion);
  put<std::uint16_t>(out, entry.flags);
  put<std::uint16_t>(out, entry.method);
  put<std::uint16_t>(out, 0);  // no time stamp, so that equal arrays give equal files
  put<std::uint16_t>(out, kFirstOfJanuary1980);
  put<std::uint32_t>(out, entry.crc);
  put<std::uint32_t>(out, extra_size ? kIn64 : static_cast<std::uint32_t>(entry.compressed_size));
  put<std::uint32_t>(out, extra_size ? kIn64 : static_cast<std::uint32_t>(entry.size));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(entry.name.size()));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(extra_size));
}

/// In pieces, so that memory does not grow with the member.
void check_crc(const SharedBytes& content, std::uint32_t expected, const std::string& name) {
  constexpr std::size_t kPiece = std::size_t{1} << 22;
  std::uint32_t crc = 0;
  for (std::size_t at = 0; at < content.size(); at += kPiece) {
    const std::size_t size = std::min(kPiece, content.size() - at);
    crc = crc_of(content.data() + at, size, crc);
    content.note_paged_in(size);
  }
  content.check_intact(name);
  if (crc != expected) throw_malformed(name, "fails its checksum");
}

}  // namespace

std::vector<ZipEntry> read_zip_directory(const SharedBytes& archive, const std::string& name) {
  const Fields fields(archive.span(), name);
  const Directory directory = find_directory(fields, archive.size(), name);
  if (!fields.has(directory.offset, directory.size) || directory.entries > directory.size / kDirectoryHeaderSize)
    throw_malformed(name, "has a directory that does not fit the file");
  std::vector<ZipEntry> entries;
  std::uint64_t at = directory.offset;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    if (fields.at<std::uint32_t>(at) != kDirectoryHeader) throw_malformed(name, "has a damaged directory");
    ZipEntry entry;
    entry.flags = fields.at<std::uint16_t>(at + 8);
    entry.method = fields.at<std::uint16_t>(at + 10);
    entry.crc = fields.at<std::uint32_t>(at + 16);
    entry.compressed_size = fields.at<std::uint32_t>(at + 20);
    entry.size = fields.at<std::uint32_t>(at + 24);
    const auto name_size = fields.at<std::uint16_t>(at + 28);
    const auto extra_size = fields.at<std::uint16_t>(at + 30);
    const auto comment_size = fields.at<std::uint16_t>(at + 32);
    entry.header_offset = fields.at<std::uint32_t>(at + 42);
    entry.name = fields.text(at + kDirectoryHeaderSize, name_size);
    const std::uint64_t extra = at + kDirectoryHeaderSize + name_size;
    read_zip64_extra(fields, extra, extra + extra_size, entry);
    entries.push_back(std::move(entry));
    at = extra + extra_size + comment_size;
  }
  return entries;
}

namespace {

/// What the archive has of a member, deflated or not.
SharedBytes stored_member(const SharedBytes& archive, const ZipEntry& entry, const std::string& name) {
  const Fields fields(archive.span(), name);
  if (entry.flags & kEncrypted)
    throw_input_error("an archive without a password", name + " is encrypted", "decrypt it");
  if (entry.method != kStored && entry.method != kDeflated)
    throw_input_error("a stored or deflated archive member", fmt::format("{} has method {}", name, entry.method),
                      "write it with numpy.savez or numpy.savez_compressed");
  if (!fields.has(entry.header_offset, kLocalHeaderSize) ||
      fields.at<std::uint32_t>(entry.header_offset) != kLocalHeader)
    throw_malformed(name, "has no header where the directory says");
  const std::uint64_t begin = entry.header_offset + kLocalHeaderSize +
                              fields.at<std::uint16_t>(entry.header_offset + 26) +
                              fields.at<std::uint16_t>(entry.header_offset + 28);
  if (!fields.has(begin, entry.compressed_size)) throw_malformed(name, "claims more bytes than the file holds");
  if (entry.method == kStored && entry.size != entry.compressed_size)
    throw_malformed(name, "is stored with two different sizes");
  return archive.part(begin, entry.compressed_size);
}

}  // namespace

std::string beginning_of_zip_member(const SharedBytes& archive, const ZipEntry& entry, std::size_t most,
                                    const std::string& name) {
  const SharedBytes content = stored_member(archive, entry, name);
  if (entry.method == kDeflated) return beginning_of_raw(content, most, name);
  const SharedBytes beginning = content.part(0, std::min(most, content.size()));
  return {reinterpret_cast<const char*>(beginning.data()), beginning.size()};
}

SharedBytes open_zip_member(const SharedBytes& archive, const ZipEntry& entry, const std::string& name) {
  const SharedBytes content = stored_member(archive, entry, name);
  if (entry.method == kDeflated) return inflate_raw(content, entry.size, entry.crc, name);
  check_crc(content, entry.crc, name);
  return content;
}

void ZipWriter::add(const std::string& name, const std::vector<std::pair<const void*, std::size_t>>& pieces) {
  ZipEntry entry;
  entry.name = name;
  entry.flags = kUtf8Names;
  entry.header_offset = file_.position();
  for (const auto& [data, size] : pieces) {
    entry.crc = crc_of(data, size, entry.crc);
    entry.size += size;
  }
  entry.compressed_size = entry.size;
  if (name.size() > 0xffff) throw_input_error("a name of at most 65535 bytes", "a longer one", "shorten it");

  std::string extra;
  if (entry.size >= kIn64) {
    put<std::uint16_t>(extra, kZip64Extra);
    put<std::uint16_t>(extra, 16);
    put<std::uint64_t>(extra, entry.size);
    put<std::uint64_t>(extra, entry.compressed_size);
  }
  std::string header;
  put<std::uint32_t>(header, kLocalHeader);
  put_shared_fields(header, entry, extra.size());
  header += name + extra;
  file_.write(header.data(), header.size());
  for (const auto& [data, size] : pieces) file_.write(data, size);
  entries_.push_back(std::move(entry));
}

void ZipWriter::finish() {
  const std::uint64_t begin = file_.position();
  std::string out;
  for (const ZipEntry& entry : entries_) {
    std::string extra;
    if (entry.size >= kIn64 || entry.header_offset >= kIn64) {
      put<std::uint16_t>(extra, kZip64Extra);
      put<std::uint16_t>(extra, 24);
      put<std::uint64_t>(extra, entry.size);
      put<std::uint64_t>(extra, entry.compressed_size);
      put<std::uint64_t>(extra, entry.header_offset);
    }
    put<std::uint32_t>(out, kDirectoryHeader);
    put<std::uint16_t>(out, kVersion64);
    put_shared_fields(out, entry, extra.size());
    put<std::uint16_t>(out, 0);  // comment
    put<std::uint16_t>(out, 0);  // disk
    put<std::uint16_t>(out, 0);  // internal attributes
    put<std::uint32_t>(out, 0);  // external attributes
    put<std::uint32_t>(out, extra.empty() ? clipped(entry.header_offset) : kIn64);
    out += entry.name + extra;
  }
  const std::uint64_t size = out.size();
  const std::uint64_t count = entries_.size();
  if (begin >= kIn64 || size >= kIn64 || count >= 0xffff) {
    const std::uint64_t end64 = begin + size;
    put<std::uint32_t>(out, kEndOfDirectory64);
    put<std::uint64_t>(out, kEnd64Size - 12);
    put<std::uint16_t>(out, kVersion64);
    put<std::uint16_t>(out, kVersion64);
    put<std::uint64_t>(out, 0);  // disks
    put<std::uint64_t>(out, count);
    put<std::uint64_t>(out, count);
    put<std::uint64_t>(out, size);
    put<std::uint64_t>(out, begin);
    put<std::uint32_t>(out, kLocator64);
    put<std::uint32_t>(out, 0);
    put<std::uint64_t>(out, end64);
    put<std::uint32_t>(out, 1);
  }
  put<std::uint32_t>(out, kEndOfDirectory);
  put<std::uint32_t>(out, 0);  // disks
  put<std::uint16_t>(out, static_cast<std::uint16_t>(std::min<std::uint64_t>(count, 0xffff)));
  put<std::uint16_t>(out, static_cast<std::uint16_t>(std::min<std::uint64_t>(count, 0xffff)));
  put<std::uint32_t>(out, clipped(size));
  put<std::uint32_t>(out, clipped(begin));
  put<std::uint16_t>(out, 0);  // comment
  file_.write(out.data(), out.size());
}

}  // namespace halfstep
