#include "formats/npz.h"

#include <gmock/gmock.h>

#include "formats/inflate.h"
#include "tests/data/temporary_folder.h"
#include <halfstep/data/dataset.h>
#include <halfstep/formats/npy.h>

namespace halfstep {
namespace {

using namespace std::string_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::little;
using testing::TemporaryFolder;

std::string npy_of(const Tensor& tensor) {
  return npy_header(tensor.dtype(), tensor.shape()) +
         std::string(static_cast<const char*>(tensor.raw()), tensor.bytes());
}

/// An archive of one member, with the knobs that the tests turn.
struct Archive {
  std::string content;
  bool deflate = false;
  bool zip64 = false;
  std::uint16_t method = 0, flags = 0;
  std::uint32_t crc_change = 0;
  std::int32_t size_change = 0, compressed_size_change = 0, offset_change = 0;

  std::string bytes() const {
    const std::string body = deflate ? testing::deflated(content, -15) : content;
    const auto crc = static_cast<std::uint32_t>(
        ::crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size())));
    const auto size = static_cast<std::uint32_t>(content.size()) + size_change;
    const auto compressed = static_cast<std::uint32_t>(body.size()) + compressed_size_change;
    const std::string name = "a.npy";
    const std::uint16_t used_method = deflate ? 8 : method;
    const auto u16 = [](unsigned v) { return little(static_cast<std::uint16_t>(v)); };
    const auto u32 = [](std::uint32_t v) { return little(v); };
    const auto u64 = [](std::uint64_t v) { return little(v); };
    const std::string shared = u16(20) + u16(flags) + u16(used_method) + u16(0) + u16(33) + u32(crc ^ crc_change);
    const std::string local = "PK\3\4" + shared + u32(compressed) + u32(size) + u16(5) + u16(0) + name + body;
    const std::string extra = zip64 ? u16(1) + u16(24) + u64(size) + u64(compressed) + u64(0) : "";
    const std::uint32_t in64 = 0xffffffff;
    const std::string directory = "PK\1\2" + u16(45) + shared + u32(zip64 ? in64 : compressed) +
                                  u32(zip64 ? in64 : size) + u16(5) + u16(static_cast<unsigned>(extra.size())) +
                                  u16(0) + u16(0) + u16(0) + u32(0) + u32(zip64 ? in64 : 0 + offset_change) + name +
                                  extra;
    std::string end;
    const auto begin = static_cast<std::uint32_t>(local.size());
    const auto directory_size = static_cast<std::uint32_t>(directory.size());
    if (zip64)
      end = "PK\6\6" + u64(44) + u16(45) + u16(45) + u32(0) + u32(0) + u64(1) + u64(1) + u64(directory_size) +
            u64(begin) + "PK\6\7" + u32(0) + u64(begin + directory_size) + u32(1);
    end += "PK\5\6" + u16(0) + u16(0) + u16(zip64 ? 0xffff : 1) + u16(zip64 ? 0xffff : 1) +
           u32(zip64 ? in64 : directory_size) + u32(zip64 ? in64 : begin) + u16(3) + "end";
    return local + directory + end;
  }
};

const Tensor kTensor = Tensor::of<float>({1, 2, 3, 4, 5, 6}, Shape{2, 3});

TEST(Npz, ReadsStoredAndDeflatedMembers) {
  TemporaryFolder folder;
  for (const bool deflate : {false, true})
    for (const bool zip64 : {false, true}) {
      const Archive archive{.content = npy_of(kTensor), .deflate = deflate, .zip64 = zip64};
      const NpzFile file(folder.write("a.npz", archive.bytes()));
      EXPECT_THAT(file.names(), ElementsAre("a"));
      EXPECT_TRUE(identical(file.open("a").load(), kTensor)) << deflate << zip64;
    }
}

TEST(Npz, MalformedArchivesAreRefused) {
  const std::string npy = npy_of(kTensor);
  const struct {
    const char* what;
    Archive archive;
    const char* error;
  } cases[] = {
      {"encrypted", {.content = npy, .flags = 1}, "encrypted"},
      {"other method", {.content = npy, .method = 12}, "method 12"},
      {"wrong checksum", {.content = npy, .deflate = true, .crc_change = 1}, "checksum"},
      {"wrong checksum of a stored member", {.content = npy, .crc_change = 1}, "checksum"},
      {"more than claimed", {.content = npy, .deflate = true, .size_change = -1}, "more than its header says"},
      {"less than claimed", {.content = npy, .deflate = true, .size_change = 1}, "less than its header says"},
      {"cut stream", {.content = npy, .deflate = true, .compressed_size_change = -9}, "truncated"},
      {"two sizes", {.content = npy, .size_change = 1}, "two different sizes"},
      {"outside the file", {.content = npy, .size_change = 9999, .compressed_size_change = 9999}, "more bytes than"},
      {"no local header", {.content = npy, .offset_change = 5}, "no header where"},
      {"not NPY inside", {.content = "hello"}, "does not start with"},
      {"NPY cut short", {.content = npy.substr(0, npy.size() - 4)}, "holds 20"},
  };
  TemporaryFolder folder;
  for (const auto& c : cases) {
    const auto path = folder.write("bad.npz", c.archive.bytes());
    EXPECT_THAT(testing::error_of([&] { NpzFile(path).open("a"); }), HasSubstr(c.error)) << c.what;
    EXPECT_THAT(testing::error_of([&] { NpzFile(path).open_later("a").load(); }), HasSubstr(c.error)) << c.what;
  }
}

/// Members of which nobody knows yet whether they are needed: their type is read, and no more.
TEST(Npz, ElementsAreReadWhenTheyAreFirstNeeded) {
  TemporaryFolder folder;
  const Tensor large(DType::f32, {1 << 16, 16});  // zeros: it takes 4 KiB deflated, beyond the bound below
  for (const bool deflate : {false, true})
    for (const std::uint32_t crc_change : {0U, 1U}) {
      SCOPED_TRACE(::testing::Message() << deflate << " " << crc_change);
      const Archive archive{.content = npy_of(large), .deflate = deflate, .crc_change = crc_change};
      const NpzFile file(folder.write("a.npz", archive.bytes()));
      set_max_unpacked(1 << 20);
      const DataArray array = file.open_later("a"), copy = array;
      EXPECT_EQ(array.dtype(), DType::f32);
      EXPECT_EQ(array.shape(), large.shape());
      EXPECT_EQ(array.name(), copy.name());
      const std::vector<std::int64_t> rows{3};
      std::vector<float> row(16, 1);
      const auto read = [&] { array.read_rows(rows, row.data()); };
      if (deflate || crc_change != 0)
        EXPECT_THAT(testing::error_of(read), HasSubstr(deflate ? "unpacks to at most" : "checksum"));
      else
        read();
      set_max_unpacked(0);  // it is tried again
      if (crc_change != 0) {
        EXPECT_THAT(testing::error_of(read), HasSubstr("checksum"));
        EXPECT_THAT(testing::error_of([&] { copy.load(); }), HasSubstr("checksum"));
        continue;
      }
      copy.read_rows(rows, row.data());
      EXPECT_THAT(row, ::testing::Each(0));
      EXPECT_TRUE(identical(array.load(), large));
    }
  for (const bool deflate : {false, true}) {
    const std::string header = npy_header(DType::f32, {2, std::int64_t{1} << 40});
    const NpzFile lacking(folder.write("c.npz", Archive{.content = header + "1234", .deflate = deflate}.bytes()));
    EXPECT_THAT(testing::error_of([&] { lacking.open_later("a"); }), HasSubstr("bytes of them"));
  }
  const NpzFile text(folder.write("b.npz", Archive{.content = "hello", .deflate = true}.bytes()));
  EXPECT_THAT(testing::error_of([&] { text.open_later("a"); }), HasSubstr("does not start with"));
  EXPECT_THAT(testing::error_of([&] { text.open_later("z"); }), HasSubstr("an array named 'z'"));
}

TEST(Npz, ADamagedArrayThatNobodyNeedsHarmsNothing) {
  TemporaryFolder folder;
  const Tensor x(DType::f32, {4, 2}), y(DType::i64, {4}), other = Tensor::of<float>({1, 2, 3, 4}, Shape{4, 1});
  write_npz(folder / "a.npz", {{"x", x}, {"y", y}, {"other", other}});
  std::string bytes = testing::read_file(folder / "a.npz");
  const std::string elements(static_cast<const char*>(other.raw()), other.bytes());
  bytes[bytes.find(elements)] ^= 1;
  folder.write("a.npz", bytes);
  const Dataset data = open_dataset(parse_data_spec((folder / "a.npz").string()), Split::train);
  EXPECT_THAT(data.notices, ::testing::IsEmpty());
  ASSERT_EQ(data.x.size(), 2u);
  EXPECT_TRUE(identical(data.x[0].rows.load(), x));
  EXPECT_THAT(testing::error_of([&] { data.x[1].rows.load(); }), HasSubstr("a.npz[other] fails its checksum"));
}

TEST(Npz, EveryTruncationIsRefused) {
  TemporaryFolder folder;
  for (const bool zip64 : {false, true}) {
    const std::string bytes = Archive{.content = npy_of(kTensor), .zip64 = zip64}.bytes();
    for (std::size_t size = 0; size + 3 < bytes.size(); ++size) {  // the last 3 bytes are a comment
      const auto path = folder.write("bad.npz", bytes.substr(0, size));
      EXPECT_THAT(testing::error_of([&] { NpzFile(path).open("a"); }), HasSubstr("a ZIP archive")) << size;
    }
  }
}

TEST(Npz, FlippedBitsNeverCrash) {
  TemporaryFolder folder;
  const std::string good = Archive{.content = npy_of(kTensor), .deflate = true, .zip64 = true}.bytes();
  int refused = 0;
  for (std::size_t bit = 0; bit < good.size() * 8; bit += 3) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    const auto path = folder.write("bad.npz", bytes);
    try {
      EXPECT_TRUE(identical(NpzFile(path).open("a").load(), kTensor)) << "bit " << bit;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(Npz, WhatIsWrittenIsReadBack) {
  TemporaryFolder folder;
  const std::vector<std::pair<std::string, Tensor>> arrays = {{"x", kTensor},
                                                              {"deep/name", Tensor::of<std::int64_t>({7})},
                                                              {"\xc3\xa4", Tensor::scalar(1.5)},
                                                              {"empty", Tensor(DType::u8, Shape{0})}};
  write_npz(folder / "a.npz", arrays);
  const NpzFile file(folder / "a.npz");
  EXPECT_THAT(file.names(), ElementsAre("x", "deep/name", "\xc3\xa4", "empty"));
  for (const auto& [name, tensor] : arrays) EXPECT_TRUE(identical(file.open(name).load(), tensor)) << name;
  EXPECT_THAT(testing::error_of([&] { file.open("z"); }), HasSubstr("got x, deep/name"));

  write_npz(folder / "none.npz", {});
  EXPECT_TRUE(NpzFile(folder / "none.npz").names().empty());
  EXPECT_THAT(testing::error_of([&] {
                write_npz(folder / "b.npz", {{"x", kTensor}, {"x", kTensor}});
              }),
              HasSubstr("two named x"));
  EXPECT_FALSE(std::filesystem::exists(folder / "b.npz"));
}

}  // namespace
}  // namespace halfstep
