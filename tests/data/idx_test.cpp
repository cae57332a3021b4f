#include "formats/idx.h"

#include <gmock/gmock.h>

#include "tests/data/temporary_folder.h"

namespace halfstep {
namespace {

using namespace std::string_literals;
using testing::big;
using ::testing::ElementsAre;
using testing::gzipped;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::string header(char type, std::initializer_list<std::uint32_t> dims) {
  std::string text = "\0\0"s + type + static_cast<char>(dims.size());
  for (std::uint32_t extent : dims) text += big(extent);
  return text;
}

TEST(Idx, ReadsEveryType) {
  const struct {
    char type;
    std::string two_and_minus_three;
    DType dtype;
  } cases[] = {
      {0x09, "\x02\xfd"s, DType::i8},
      {0x0B, big<std::int16_t>(2) + big<std::int16_t>(-3), DType::i16},
      {0x0C, big<std::int32_t>(2) + big<std::int32_t>(-3), DType::i32},
      {0x0D, big(2.0f) + big(-3.0f), DType::f32},
      {0x0E, big(2.0) + big(-3.0), DType::f64},
  };
  TemporaryFolder folder;
  for (const auto& c : cases) {
    const DataArray array = open_idx(folder.write("a.idx", header(c.type, {2}) + c.two_and_minus_three));
    EXPECT_EQ(array.dtype(), c.dtype);
    EXPECT_THAT(to_doubles(array.load()), ElementsAre(2, -3)) << name_of(c.dtype);
  }
}

TEST(Idx, ReadsPlainAndCompressedFilesAlike) {
  TemporaryFolder folder;
  const std::string bytes = header(0x08, {2, 1, 3}) + "\x01\x02\x03\x04\x05\xff"s;
  const std::string half = bytes.substr(0, 11), rest = bytes.substr(11);
  for (const std::string& content : {bytes, gzipped(bytes), gzipped(half) + gzipped(rest)}) {
    const DataArray array = open_idx(folder.write("a", content));
    EXPECT_EQ(array.shape(), (Shape{2, 1, 3}));
    EXPECT_EQ(array.rows(), 2);
    std::uint8_t out[6];
    const std::int64_t rows[] = {1, 0};
    array.read_rows(rows, out);
    EXPECT_THAT(out, ElementsAre(4, 5, 255, 1, 2, 3));
  }
}

TEST(Idx, MalformedFilesAreRefused) {
  const std::string good = header(0x08, {2, 3}) + "abcdef";
  std::string wrong_crc = gzipped(good);
  wrong_crc[wrong_crc.size() - 8] ^= 1;
  const struct {
    const char* what;
    std::string bytes;
    const char* error;
  } cases[] = {
      {"empty", "", "0 bytes long"},
      {"wrong magic", "PK\3\4abcdefgh", "two zero bytes"},
      {"unknown type", header(0x0A, {1}) + "a", "0x0a"},
      {"ends in the header", good.substr(0, 7), "header of 12 bytes"},
      {"truncated", good.substr(0, good.size() - 1), "truncated"},
      {"too long", good + "g", "holds 7"},
      {"claims too much", header(0x0E, {0xffffffff, 0xffffffff, 0xffffffff}) + "a", "more than any file's"},
      {"truncated gzip", gzipped(good).substr(0, 15), "is truncated"},
      {"corrupt gzip", wrong_crc, "is corrupt"},
  };
  TemporaryFolder folder;
  for (const auto& c : cases) {
    const auto path = folder.write("bad", c.bytes);
    EXPECT_THAT(testing::error_of([&] { open_idx(path); }), HasSubstr(c.error)) << c.what;
  }
  EXPECT_THAT(testing::error_of([&] { open_idx(folder / "missing"); }), HasSubstr("No such file"));
  EXPECT_THAT(testing::error_of([&] { open_idx(folder.path()); }), HasSubstr("something else"));
}

}  // namespace
}  // namespace halfstep
