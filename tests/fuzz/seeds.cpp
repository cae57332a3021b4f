#include "tests/fuzz/seeds.h"

#include <cstdint>
#include <filesystem>
#include <functional>

#include <zlib.h>

#include "formats/npz.h"
#include "formats/safetensors.h"
#include "tests/data/pictures.h"
#include "tests/data/temporary_folder.h"
#include <halfstep/formats/npy.h>

namespace halfstep::fuzz {
namespace {

using namespace std::string_literals;
using halfstep::testing::big;
using halfstep::testing::deflated;
using halfstep::testing::little;
using halfstep::testing::TemporaryFolder;

std::string written(const std::function<void(const std::filesystem::path&)>& write) {
  const TemporaryFolder folder;
  write(folder / "seed");
  return halfstep::testing::read_file(folder / "seed");
}

const Tensor kFloats = Tensor::of<float>({1, -2, 0.5F, 4, 5, 6}, {3, 2});
const Tensor kIntegers = Tensor::of<std::int64_t>({3, 1, 2});

std::string npy_of(const Tensor& tensor) {
  return npy_header(tensor.dtype(), tensor.shape()) +
         std::string(static_cast<const char*>(tensor.raw()), tensor.bytes());
}

/// An archive of one deflated member (PKWARE APPNOTE 4.3).
std::string deflated_archive(const std::string& name, const std::string& content) {
  const std::string body = deflated(content, -15);
  const auto crc = static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size())));
  const std::string common = little<std::uint16_t>(0) + little<std::uint16_t>(8) + little<std::uint32_t>(0) +
                             little(crc) + little(static_cast<std::uint32_t>(body.size())) +
                             little(static_cast<std::uint32_t>(content.size())) +
                             little(static_cast<std::uint16_t>(name.size())) + little<std::uint16_t>(0);
  const std::string local = "PK\x03\x04"s + little<std::uint16_t>(20) + common + name + body;
  const std::string central =
      "PK\x01\x02"s + little<std::uint16_t>(20) + little<std::uint16_t>(20) + common + std::string(14, '\0') + name;
  return local + central + "PK\x05\x06"s + little<std::uint32_t>(0) + little<std::uint16_t>(1) +
         little<std::uint16_t>(1) + little(static_cast<std::uint32_t>(central.size())) +
         little(static_cast<std::uint32_t>(local.size())) + little<std::uint16_t>(0);
}

}  // namespace

std::vector<std::string> safetensors_seeds() {
  const Safetensors content{.tensors = {{"w", kFloats}, {"i", kIntegers}, {"empty", Tensor(DType::bf16, {0, 3})}},
                            .metadata = {{"format", "pt"}}};
  return {written([&](const auto& path) { write_safetensors(path, content); }),
          written([](const auto& path) { write_safetensors(path, {}); })};
}

std::vector<std::string> npy_seeds() {
  std::string fortran = npy_of(kFloats), big_endian = npy_of(kIntegers);
  fortran.replace(fortran.find("False"), 5, "True ");
  big_endian.replace(big_endian.find("<i8"), 3, ">i8");
  return {npy_of(kFloats),
          npy_of(kIntegers),
          fortran,
          big_endian,
          npy_of(Tensor(DType::boolean, {2, 0, 2})),
          deflated(npy_of(kFloats), 31)};
}

std::vector<std::string> npz_seeds() {
  return {written([](const auto& path) {
            write_npz(path, {{"x", kFloats}, {"y", kIntegers}});
          }),
          deflated_archive("x.npy", npy_of(kFloats))};
}

std::vector<std::string> csv_seeds() {
  return {"1,2,0\n3,4.5,1\n-1e3,0.25,1\n"s, "length;width;species\n1,5;2;\"setosa\"\n3;4;virginica\n\n"s,
          "\xEF\xBB\xBF"s + "a\tb\tlabel\r\n\"1\"\t2\tTrue\r\n3\t4\tFalse\r\n"s, deflated("1,2\n3,4\n", 31)};
}

std::vector<std::string> idx_seeds() {
  const std::string bytes = "\0\0\x08\x03"s + big<std::uint32_t>(2) + big<std::uint32_t>(2) + big<std::uint32_t>(3) +
                            "abcdefghijkl",
                    floats = "\0\0\x0d\x01"s + big<std::uint32_t>(2) + big(1.5F) + big(-2.0F);
  return {bytes, floats, "\0\0\x0c\x01"s + big<std::uint32_t>(1) + big<std::int32_t>(-7), deflated(bytes, 31)};
}

std::vector<std::string> image_seeds() {
  using namespace halfstep::testing;
  const auto rule = [](int y, int x, int c) { return 9 * y + 7 * x + 31 * c; };
  const auto rgb = pixels(12, 10, 3, rule);
  return {png_of(12, 10, SPNG_COLOR_TYPE_TRUECOLOR, rgb),
          png_of(12, 10, SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, pixels(12, 10, 2, rule)),
          jpeg_of(12, 10, rgb, {.exif = exif_of(6, true)}), jpeg_of(12, 10, rgb, {.progressive = true}),
          jpeg_of(12, 10, pixels(12, 10, 1, rule), {.space = JCS_GRAYSCALE})};
}

}  // namespace halfstep::fuzz
