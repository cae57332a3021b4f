// Pictures, one by one: reading JPEG and PNG files, turning and resizing.
#include "formats/image.h"

#include <cstdlib>
#include <string>

#include <gmock/gmock.h>

#include "tests/data/pictures.h"
#include "tests/data/temporary_folder.h"

namespace halfstep {
namespace {

using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::ElementsAreArray;
using testing::error_of;
using testing::exif_of;
using ::testing::HasSubstr;
using testing::jpeg_of;
using testing::pixels;
using testing::png_of;

Image decode(const std::string& bytes) {
  return decode_image({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "a/picture");
}

int pattern(int y, int x, int c) { return (y * 31 + x * 17 + c * 59) * (y + 1) % 256; }

TEST(Image, PngFilesOfEveryKindBecomeRgb) {
  const auto rgb = pixels(5, 7, 3, pattern);
  const Image read = decode(png_of(5, 7, SPNG_COLOR_TYPE_TRUECOLOR, rgb));
  EXPECT_EQ(read.height, 5);
  EXPECT_EQ(read.width, 7);
  EXPECT_EQ(read.pixels, rgb);
  const auto grey_rows = pixels(5, 7, 1, pattern);
  EXPECT_EQ(decode(png_of(5, 7, SPNG_COLOR_TYPE_GRAYSCALE, grey_rows)).pixels,
            pixels(5, 7, 3, [](int y, int x, int) { return pattern(y, x, 0); }));
  const auto with_alpha = pixels(5, 7, 4, [](int y, int x, int c) { return c == 3 ? x : pattern(y, x, c); });
  EXPECT_EQ(decode(png_of(5, 7, SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, with_alpha)).pixels, rgb);
  // Of 16 bits the upper eight count.
  const auto deep = pixels(5, 14, 3, [](int y, int i, int c) {
    return (3 * i + c) % 2 ? 77 : pattern(y, (3 * i + c) / 2 / 3, (3 * i + c) / 2 % 3);
  });
  EXPECT_EQ(decode(png_of(5, 7, SPNG_COLOR_TYPE_TRUECOLOR, deep, 16)).pixels, rgb);
}

TEST(Image, TheNumberOfPixelsIsKnownBeforeTheyAreRead) {
  const auto rgb = pixels(5, 7, 3, pattern);
  for (const std::string& bytes : {png_of(5, 7, SPNG_COLOR_TYPE_TRUECOLOR, rgb), jpeg_of(5, 7, rgb)}) {
    std::vector<std::int64_t> told;
    decode_image({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "a/picture",
                 [&](std::int64_t count) { told.push_back(count); });
    EXPECT_EQ(told, std::vector<std::int64_t>{5 * 7});
  }
}

TEST(Image, JpegFilesOfEveryKindBecomeRgb) {
  const auto rgb = pixels(16, 24, 3, [](int y, int x, int c) { return 8 * y + 4 * x + 20 * c; });
  for (const bool progressive : {false, true}) {
    const Image read = decode(jpeg_of(16, 24, rgb, {.progressive = progressive}));
    EXPECT_EQ(read.height, 16);
    EXPECT_EQ(read.width, 24);
    ASSERT_EQ(read.pixels.size(), rgb.size());
    for (std::size_t i = 0; i < rgb.size(); ++i) EXPECT_NEAR(read.pixels[i], rgb[i], 12) << i;
  }
  const Image grey_one =
      decode(jpeg_of(8, 8, pixels(8, 8, 1, [](int, int, int) { return 90; }), {.space = JCS_GRAYSCALE}));
  EXPECT_EQ(grey_one.pixels, std::vector<std::uint8_t>(8 * 8 * 3, 90));
}

TEST(Image, OrientationIsRespected) {
  // Bright where the upright picture's top left is; wide before it is turned.
  for (const bool big : {false, true})
    for (int orientation = 1; orientation <= 8; ++orientation) {
      // Where the upright picture's top left corner is stored: row 0 and column 0 are its sides by the standard.
      const bool stored_bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 6;
      const bool stored_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
      const auto stored = pixels(16, 32, 3, [&](int y, int x, int) {
        return (y >= 8) == stored_bottom && (x >= 16) == stored_right ? 250 : 10;
      });
      const Image image = decode(jpeg_of(16, 32, stored, {.exif = exif_of(orientation, big)}));
      EXPECT_EQ(image.height, orientation <= 4 ? 16 : 32) << orientation;
      EXPECT_GT(image.pixels.front(), 200) << orientation;
      EXPECT_LT(image.pixels.back(), 60) << orientation;
      const std::string exif = exif_of(orientation, big).substr(6);  // without JPEG's "Exif\0\0"
      const Image png = decode(png_of(16, 32, SPNG_COLOR_TYPE_TRUECOLOR, stored, 8, exif));
      EXPECT_EQ(png.height, image.height) << orientation;
      EXPECT_EQ(png.pixels.front(), 250) << orientation;
      EXPECT_EQ(png.pixels.back(), 10) << orientation;
    }
  for (const std::string& exif :
       {"Exif\0\0MM"s, exif_of(6, true).substr(0, 20), "Exif\0\0II\x2a\0\xff\xff\xff\x7f"s, exif_of(9, true)})
    EXPECT_EQ(decode(jpeg_of(8, 16, pixels(8, 16, 3, pattern), {.exif = exif})).height, 8);
}

TEST(Image, DamagedFilesAreErrorsThatNameThem) {
  const std::string png = png_of(32, 32, SPNG_COLOR_TYPE_TRUECOLOR,
                                 pixels(32, 32, 3, [](int y, int x, int c) { return y * x * 7 + c; })),
                    jpeg = jpeg_of(32, 32, pixels(32, 32, 3, pattern));
  std::string broken_crc = png, huge_png = png, huge_jpeg = jpeg;
  broken_crc[broken_crc.size() / 2] ^= 1;
  huge_png.replace(16, 8, "\x7f\xff\xff\xff\x7f\xff\xff\xff"s);
  const std::size_t frame = huge_jpeg.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  huge_jpeg.replace(frame + 5, 4, "\xff\x00\xff\x00"s);
  const struct {
    std::string bytes, error;
  } cases[] = {
      {png.substr(0, png.size() / 2), "a/picture: "},
      {png.substr(0, 20), "a/picture: "},
      {broken_crc, "a/picture: "},
      {huge_png, "a/picture: "},
      {jpeg.substr(0, jpeg.size() / 2), "a/picture: "},
      {jpeg.substr(0, 30), "a/picture: "},
      {huge_jpeg, "65280 x 65280 pixels are more than"},
      {jpeg_of(8, 8, pixels(8, 8, 4, pattern), {.space = JCS_CMYK}), "it is in CMYK"},
      {"GIF89a", "a/picture, which is neither"},
      {"", "a/picture, which is neither"},
  };
  for (const auto& c : cases) EXPECT_THAT(error_of([&] { decode(c.bytes); }), HasSubstr(c.error));
  // What a decoder only warns of, and reads all the same.
  std::string extraneous = jpeg;
  extraneous.insert(frame, "\x12\x34");
  EXPECT_EQ(decode(extraneous).pixels, decode(jpeg).pixels);
}

std::vector<std::uint8_t> resized(const Image& image, const Cut& cut) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(cut.height * cut.width * image.channels));
  resize_and_cut(image, cut, out.data());
  return out;
}

// Values by Pillow 13.0: Image.fromarray(pattern).resize((width, height), Image.BILINEAR), convert("L").
TEST(Image, ResizesAsPillowDoes) {
  const Image image{5, 7, 3, pixels(5, 7, 3, pattern)};
  EXPECT_THAT(
      resized(image, {3, 4, 0, 0, 3, 4}),
      ElementsAreArray({39,  124, 98,  77,  130, 136, 122, 96,  181, 102, 134, 218, 163, 148, 69, 119, 155, 132,
                        144, 65,  157, 163, 144, 128, 145, 159, 110, 125, 139, 124, 131, 145, 82, 84,  155, 162}));
  EXPECT_THAT(resized(image, {3, 7, 0, 0, 3, 7}),
              ElementsAreArray({27,  111, 85,  51,  135, 110, 75,  159, 134, 99,  74,  158, 124, 98,  183, 148,
                                123, 207, 63,  147, 231, 143, 121, 42,  194, 172, 93,  103, 223, 144, 97,  18,
                                138, 148, 69,  189, 199, 120, 98,  136, 171, 149, 111, 125, 139, 189, 203, 70,
                                121, 134, 148, 89,  102, 116, 166, 180, 47,  98,  111, 125, 66,  189, 203}));
  // The first row of 10 x 9, and the last pixel.
  EXPECT_THAT(resized(image, {9, 10, 0, 0, 1, 10}),
              ElementsAreArray({0,  59,  118, 9,  68,  127, 21, 80,  139, 33, 92,  151, 45,  104, 163,
                                57, 116, 175, 69, 128, 187, 81, 140, 199, 93, 152, 211, 102, 161, 220}));
  EXPECT_THAT(resized(image, {9, 10, 8, 9, 1, 1}), ElementsAreArray({106, 145, 184}));
  EXPECT_EQ(resized(image, {5, 7, 0, 0, 5, 7}), image.pixels);
  EXPECT_THAT(grey(image).pixels,
              ElementsAreArray({48, 65,  82,  99,  116, 133, 150, 129, 163, 197, 81,  115, 149, 106, 122, 173, 147, 48,
                                99, 121, 172, 100, 168, 236, 48,  116, 184, 175, 140, 196, 54,  139, 195, 53,  138}));
}

TEST(Image, APartIsThatOfTheWhole) {
  const Image image{37, 23, 3, pixels(37, 23, 3, pattern)};
  const auto whole = resized(image, {20, 31, 0, 0, 20, 31});
  const auto part = resized(image, {20, 31, 4, 7, 9, 11}), flipped = resized(image, {20, 31, 4, 7, 9, 11, true});
  for (int y = 0; y < 9; ++y)
    for (int x = 0; x < 11; ++x)
      for (int c = 0; c < 3; ++c) {
        const std::uint8_t expected = whole[static_cast<std::size_t>(((y + 4) * 31 + x + 7) * 3 + c)];
        EXPECT_EQ(part[static_cast<std::size_t>((y * 11 + x) * 3 + c)], expected);
        EXPECT_EQ(flipped[static_cast<std::size_t>((y * 11 + 10 - x) * 3 + c)], expected);
      }
}

}  // namespace
}  // namespace halfstep
