#include "formats/safetensors.h"

#include <cstring>

#include <gmock/gmock.h>

#include "tests/temporary_directory.h"
#include <halfstep/base/visit.h>

namespace halfstep {
namespace {

using testing::HasSubstr;

constexpr auto kInput = Error::Kind::input;

std::string file_of(std::uint64_t header_bytes, const std::string& header, std::size_t data_bytes) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &header_bytes, 8);
  return file + header + std::string(data_bytes, '\1');
}
std::string file_of(const std::string& header, std::size_t data_bytes) {
  return file_of(header.size(), header, data_bytes);
}

constexpr DType kTypes[] = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32,    DType::i16,
                            DType::i8,  DType::u64, DType::u32, DType::u16,  DType::u8,  DType::boolean};

Tensor counting(DType dtype, Shape shape) {
  Tensor tensor(dtype, std::move(shape));
  auto* bytes = static_cast<unsigned char*>(tensor.raw());
  for (std::size_t i = 0; i < tensor.bytes(); ++i)
    bytes[i] = static_cast<unsigned char>(dtype == DType::boolean ? i % 2 : i * 37 + 11);
  return tensor;
}

TEST(Safetensors, RoundTripOfEveryTypeAndShape) {
  TemporaryDirectory dir;
  const Shape shapes[] = {Shape{}, Shape{0}, Shape{1}, Shape{7}, Shape{2, 3}, Shape{2, 0, 3}, Shape{1, 1, 1, 5}};
  Safetensors content;
  content.metadata = {{"format", "halfstep"}, {"quote \"", "line\nbreak, ü"}};
  for (const DType dtype : kTypes)
    for (const Shape& shape : shapes)
      content.tensors[std::string(name_of(dtype)) + shape.to_string()] = counting(dtype, shape);
  write_safetensors(dir / "f", content);

  const Safetensors read = read_safetensors(dir / "f");
  EXPECT_EQ(read.metadata, content.metadata);
  ASSERT_EQ(read.tensors.size(), content.tensors.size());
  for (const auto& [name, tensor] : content.tensors) {
    ASSERT_TRUE(read.tensors.contains(name)) << name;
    EXPECT_TRUE(identical(read.tensors.at(name), tensor)) << name;
  }
}

TEST(Safetensors, EmptyFile) {
  TemporaryDirectory dir;
  write_safetensors(dir / "f", {});
  EXPECT_EQ(read_text(dir / "f"), file_of("{}      ", 0));
  EXPECT_TRUE(read_safetensors(dir / "f").tensors.empty());
}

TEST(Safetensors, BytesAreTheFormats) {
  TemporaryDirectory dir;
  Safetensors content;
  content.tensors["b"] = Tensor::of<std::uint8_t>({7, 8});
  content.tensors["a"] = Tensor::of<std::uint8_t>({9});
  content.tensors["z"] = Tensor::scalar<std::int16_t>(0x0102);
  content.metadata["k"] = "v";
  write_safetensors(dir / "f", content);
  const std::string header =
      R"({"__metadata__":{"k":"v"},"z":{"dtype":"I16","shape":[],"data_offsets":[0,2]},)"
      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(read_text(dir / "f"), file_of(padded, 0) + "\x02\x01\x09\x07\x08");
}

TEST(Safetensors, RefusesBrokenFiles) {
  TemporaryDirectory dir;
  const auto tensor = [](const std::string& body) { return "{\"t\":{" + body + "}}"; };
  const std::string two =
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":)";
  struct Case {
    const char* what;
    std::string file;
    const char* expected;
  };
  const Case cases[] = {
      {"empty", "", "at least 8 bytes"},
      {"short prefix", "1234567", "at least 8 bytes"},
      {"header beyond the file", file_of(3, "{}", 0), "within the file"},
      {"huge header", file_of(~std::uint64_t{0}, "{}", 0), "within the file"},
      {"no header", file_of(0, "", 0), "JSON object"},
      {"a list", file_of("[]", 0), "JSON object"},
      {"leading space", file_of(" {}", 0), "JSON object"},
      {"cut off JSON", file_of("{\"a\":", 0), "JSON header"},
      {"two values", file_of("{}{}", 0), "JSON header"},
      {"not UTF-8", file_of("{\"\xff\":1}", 0), "JSON header"},
      {"number out of range", file_of("{\"a\":1e999}", 0), "JSON header"},
      {"deep nesting", file_of("{\"a\":" + std::string(100000, '['), 0), "deeply nested"},
      {"tensor is a number", file_of("{\"a\":1}", 0), "JSON object as description"},
      {"no dtype", file_of(tensor(R"("shape":[4],"data_offsets":[0,4],"x":0)"), 4), "element type"},
      {"unknown dtype", file_of(tensor(R"("dtype":"F7","shape":[4],"data_offsets":[0,4])"), 4), "F7"},
      {"dtype a number", file_of(tensor(R"("dtype":1,"shape":[4],"data_offsets":[0,4])"), 4), "element type"},
      {"no shape", file_of(tensor(R"("dtype":"U8","data_offsets":[0,4],"x":0)"), 4), "as shape"},
      {"too few keys", file_of(tensor(R"("dtype":"U8","data_offsets":[0,4])"), 4), "just dtype"},
      {"unknown key", file_of(tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"x":0)"), 4), "just dtype"},
      {"negative extent", file_of(tensor(R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])"), 4), "as shape"},
      {"fractional extent", file_of(tensor(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])"), 4), "as shape"},
      {"extent over int64", file_of(tensor(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4])"), 4),
       "as shape"},
      {"overflowing shape", file_of(tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4])"), 4),
       "2^63"},
      {"overflow that wraps to the size",
       file_of(tensor(R"("dtype":"U8","shape":[4611686018427387904,4,0],"data_offsets":[0,0])"), 0), "63 bits"},
      {"one offset", file_of(tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0])"), 4), "offsets"},
      {"three offsets", file_of(tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4,4])"), 4), "offsets"},
      {"offsets backwards", file_of(tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])"), 4), "offsets"},
      {"beyond the data", file_of(tensor(R"("dtype":"U8","shape":[5],"data_offsets":[0,5])"), 4), "offsets"},
      {"shape and offsets differ", file_of(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4), "8 bytes"},
      {"hole before", file_of(tensor(R"("dtype":"U8","shape":[3],"data_offsets":[1,4])"), 4), "begin"},
      {"hole after", file_of(tensor(R"("dtype":"U8","shape":[3],"data_offsets":[0,3])"), 4), "3 bytes of data"},
      {"data without tensors", file_of("{}", 4), "0 bytes of data"},
      {"overlap", file_of(two + "[2,6]}}", 6), "begin"},
      {"hole between", file_of(two + "[5,9]}}", 9), "begin"},
      {"the same bytes twice", file_of(two + "[0,4]}}", 4), "begin"},
      {"tensor twice", file_of(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}})", 0), "'a' twice"},
      {"key twice", file_of(tensor(R"("dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4])"), 4),
       "'dtype' twice"},
      {"metadata a list", file_of(R"({"__metadata__":[]})", 0), "object of strings"},
      {"metadata with a number", file_of(R"({"__metadata__":{"k":1}})", 0), "a string as 'k'"},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "twice"},
      {"bool of 2", file_of(tensor(R"("dtype":"BOOL","shape":[1],"data_offsets":[0,1])"), 0) + "\x02", "0 or 1"},
  };
  for (const Case& c : cases) {
    write_text(dir / "f", c.file);
    EXPECT_THAT(error_of(kInput, [&] { read_safetensors(dir / "f"); }), HasSubstr(c.expected)) << c.what;
  }
}

TEST(Safetensors, RefusesWhatIsNotAFile) {
  TemporaryDirectory dir;
  for (const std::filesystem::path& path : {dir.path(), dir / "missing", std::filesystem::path("/dev/zero")})
    EXPECT_THROW(read_safetensors(path), Error) << path;
}

TEST(Safetensors, EveryCutAndEveryFlippedHeaderBitIsAnErrorOrStillValid) {
  TemporaryDirectory dir;
  Safetensors content;
  content.tensors["weight"] = counting(DType::f32, Shape{3, 4});
  content.tensors["mask"] = counting(DType::boolean, Shape{5});
  content.metadata["k"] = "v";
  write_safetensors(dir / "whole", content);
  const std::string whole = read_text(dir / "whole");
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    write_text(dir / "f", whole.substr(0, bytes));
    EXPECT_THROW(read_safetensors(dir / "f"), Error) << "cut to " << bytes;
  }
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    write_text(dir / "f", damaged);
    try {
      const Safetensors read = read_safetensors(dir / "f");
      std::size_t bytes = 0;
      for (const auto& [name, tensor] : read.tensors) bytes += tensor.bytes();
      EXPECT_EQ(bytes, 53u);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), kInput);
    }
  }
}

TEST(Safetensors, RefusesToWriteWhatTheFormatLacks) {
  TemporaryDirectory dir;
  Safetensors cases[4];
  cases[0].tensors["t"] = Tensor(DType::string, Shape{1});
  cases[1].tensors["t"] = Tensor(DType::i4, Shape{2});
  cases[2].tensors["__metadata__"] = Tensor::scalar(1.0f);
  cases[3].tensors["\xff"] = Tensor::scalar(1.0f);
  for (const Safetensors& c : cases) error_of(kInput, [&] { write_safetensors(dir / "f", c); });
  EXPECT_TRUE(dir.names().empty());
}

}  // namespace
}  // namespace halfstep
