#include <gmock/gmock.h>

#include "tests/data/temporary_folder.h"
#include <halfstep/formats/npy.h>

namespace halfstep {
namespace {

using namespace std::string_literals;
using testing::big;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::little;
using testing::TemporaryFolder;

std::string npy(const std::string& dictionary, const std::string& elements, int version = 1) {
  const std::string length = version == 1 ? little(static_cast<std::uint16_t>(dictionary.size()))
                                          : little(static_cast<std::uint32_t>(dictionary.size()));
  return "\x93NUMPY"s + static_cast<char>(version) + '\0' + length + dictionary + elements;
}

std::string dictionary(const std::string& descr, const std::string& shape, bool fortran = false) {
  return "{'descr': '" + descr + "', 'fortran_order': " + (fortran ? "True" : "False") + ", 'shape': " + shape +
         ", }\n";
}

TEST(Npy, ReadsEveryTypeInBothByteOrders) {
  const struct {
    const char* code;
    DType dtype;
    std::string one, minus_two;  // big-endian; the unsigned have 254 for -2
    double second;
  } cases[] = {
      {"f2", DType::f16, "\x3c\x00"s, "\xc0\x00"s, -2},
      {"f4", DType::f32, big(1.0f), big(-2.0f), -2},
      {"f8", DType::f64, big(1.0), big(-2.0), -2},
      {"i1", DType::i8, "\x01", "\xfe", -2},
      {"i2", DType::i16, big<std::int16_t>(1), big<std::int16_t>(-2), -2},
      {"i4", DType::i32, big<std::int32_t>(1), big<std::int32_t>(-2), -2},
      {"i8", DType::i64, big<std::int64_t>(1), big<std::int64_t>(-2), -2},
      {"u1", DType::u8, "\x01", "\xfe", 254},
      {"u2", DType::u16, big<std::uint16_t>(1), big<std::uint16_t>(254), 254},
      {"u4", DType::u32, big<std::uint32_t>(1), big<std::uint32_t>(254), 254},
      {"u8", DType::u64, big<std::uint64_t>(1), big<std::uint64_t>(254), 254},
      {"b1", DType::boolean, "\x01", "\xfe", 1},  // any byte but 0 is true
  };
  TemporaryFolder folder;
  for (const auto& c : cases)
    for (const char order : {'<', '>', '|', '='}) {
      std::string one = c.one, two = c.minus_two;
      if (order != '>') one = {one.rbegin(), one.rend()}, two = {two.rbegin(), two.rend()};
      const auto path = folder.write("a.npy", npy(dictionary(order + std::string(c.code), "(2,)"), one + two));
      const DataArray array = open_npy(path);
      EXPECT_EQ(array.dtype(), c.dtype);
      EXPECT_THAT(to_doubles(array.load()), ElementsAre(1, c.second)) << order << c.code;
    }
}

TEST(Npy, ReadsFortranOrderByRows) {
  // a[i][j][k] = 100 i + 10 j + k, stored with i fastest.
  std::string elements;
  for (int k = 0; k < 4; ++k)
    for (int j = 0; j < 3; ++j)
      for (int i = 0; i < 2; ++i) elements += big<std::int16_t>(static_cast<std::int16_t>(100 * i + 10 * j + k));
  TemporaryFolder folder;
  const DataArray array = open_npy(folder.write("a.npy", npy(dictionary(">i2", "(2, 3, 4)", true), elements)));
  std::int16_t row[12];
  const std::int64_t second[] = {1};
  array.read_rows(second, row);
  EXPECT_THAT(row, ElementsAre(100, 101, 102, 103, 110, 111, 112, 113, 120, 121, 122, 123));
  EXPECT_EQ(to_int64s(array.load())[5], 11);
}

TEST(Npy, ReadsEveryVersionAndSpelling) {
  const std::string dictionaries[] = {
      dictionary("<i4", "(3,)"),
      "{\"shape\":(3L,),\"fortran_order\":False,\"descr\":\"<i4\"}   \n",
      "{'fortran_order': False, 'descr': 'i4', 'shape': ( 3 , ) }",
  };
  TemporaryFolder folder;
  for (int version : {1, 2, 3})
    for (const std::string& d : dictionaries) {
      const std::string bytes = npy(d, little(7) + little(8) + little(9), version);
      EXPECT_THAT(to_int64s(open_npy(folder.write("a.npy", bytes)).load()), ElementsAre(7, 8, 9)) << version << d;
      EXPECT_THAT(to_int64s(open_npy(folder.write("a.npy.gz", testing::gzipped(bytes))).load()), ElementsAre(7, 8, 9));
    }
}

TEST(Npy, MalformedFilesAreRefused) {
  const struct {
    const char* what;
    std::string bytes;
    const char* error;
  } cases[] = {
      {"empty", "", "does not start with"},
      {"wrong magic", "\x89PNG\r\n\x1a\n", "does not start with"},
      {"ends in the magic", "\x93NUMPY\1", "ends inside the header"},
      {"ends in the length", "\x93NUMPY\2\0ab"s, "ends inside the header"},
      {"ends in the dictionary", npy(dictionary("<f4", "(3,)"), "").substr(0, 30), "ends inside the header"},
      {"version", npy(dictionary("<f4", "(1,)"), "abcd", 4), "version 4"},
      {"not a dictionary", npy("hello", ""), "not NumPy's"},
      {"no shape", npy("{'descr': '<f4', 'fortran_order': False}", ""), "not NumPy's"},
      {"unknown key", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", ""), "not NumPy's"},
      {"negative extent", npy(dictionary("<f4", "(-1,)"), ""), "not NumPy's"},
      {"extent over 63 bits", npy(dictionary("<f4", "(9223372036854775808,)"), ""), "not NumPy's"},
      {"open tuple", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, ", ""), "not NumPy's"},
      {"truncated", npy(dictionary("<f4", "(3,)"), "abcdefgh"), "holds 8"},
      {"claims too much", npy(dictionary("<f4", "(4294967296, 4294967296)"), "abcd"), "more than any file's"},
      {"claims too much, by dtype", npy(dictionary("<f8", "(4611686018427387904,)"), "abcd"), "more than any file's"},
      {"complex", npy(dictionary("<c8", "(1,)"), "abcdefgh"), "has <c8"},
      {"text", npy(dictionary("<U5", "(0,)"), ""), "has <U5"},
      {"structured", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,)}", ""), "has [('a', '<f4')]"},
  };
  TemporaryFolder folder;
  for (const auto& c : cases) {
    const auto path = folder.write("bad.npy", c.bytes);
    EXPECT_THAT(testing::error_of([&] { open_npy(path); }), HasSubstr(c.error)) << c.what;
  }
}

TEST(Npy, WhatIsWrittenIsReadBack) {
  const Tensor tensors[] = {
      Tensor::scalar(2.5),
      Tensor::of<float>({1, 2, 3}),
      Tensor::of<f16>({f16(1.0f), f16(-2.0f)}, Shape{2, 1}),
      Tensor::of<bool>({true, false, true}),
      Tensor::of<std::int64_t>({1, 2, 3, 4, 5, 6}, Shape{1, 2, 3}),
      Tensor(DType::u8, Shape{0, 5}),
      Tensor(DType::u16, Shape{3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}),
  };
  TemporaryFolder folder;
  for (const Tensor& tensor : tensors) {
    write_npy(folder / "a.npy", tensor);
    EXPECT_TRUE(identical(open_npy(folder / "a.npy").load(), tensor)) << tensor.shape().to_string();
    EXPECT_EQ((testing::read_file(folder / "a.npy").size() - tensor.bytes()) % 64, 0u);
  }
  EXPECT_THAT(testing::error_of([&] { write_npy(folder / "b.npy", Tensor(DType::bf16, Shape{1})); }),
              HasSubstr("bf16"));
  EXPECT_EQ(folder.files(), 1u);
}

}  // namespace
}  // namespace halfstep
