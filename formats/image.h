// Pictures in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halfstep {

/// Rows of pixels of `channels` bytes.
struct Image {
  std::int64_t height = 0, width = 0, channels = 3;
  std::vector<std::uint8_t> pixels = {};
};

/// As many pixels as a picture may have: more is refused before memory is taken for them.
inline constexpr std::int64_t kMostPixels = std::int64_t{1} << 27;

/// The picture in a JPEG or PNG file's bytes, in RGB and turned as its EXIF orientation says. Alpha is dropped, 16
/// bits become 8. Throws Error(input), which names the file, for one that is damaged, cut off, too large,
/// CMYK, or neither.
Image decode_image(std::span<const std::byte> bytes, const std::string& file);

// What decode_image is made of. The text is what is wrong with the picture.
Image decode_jpeg(std::span<const std::byte> bytes);  ///< throws std::runtime_error
Image decode_png(std::span<const std::byte> bytes);   ///< throws std::runtime_error
/// Throws std::runtime_error for a picture without pixels, or with more than kMostPixels.
void check_extents(std::int64_t height, std::int64_t width);

/// The value of the tag Orientation (0x112) in the first directory of EXIF's TIFF; 1 where there is none.
int exif_orientation(std::string_view tiff);
/// Turned upright, from one of EXIF's eight orientations: 1 is upright.
Image turned(Image image, int orientation);
/// The luma of RGB (ITU-R 601), in one channel.
Image grey(const Image& image);

/// Where a row lies in a resized picture.
struct Cut {
  std::int64_t resized_height = 0, resized_width = 0;  ///< of the whole picture
  std::int64_t top = 0, left = 0, height = 0, width = 0;
  bool flipped = false;
};

/// The part of the picture, resized with a triangle filter that widens where it shrinks: bit by bit what resizing the
/// whole with Pillow's Image.resize(…, BILINEAR) and cutting the part out gives. `out` has room for the part.
void resize_and_cut(const Image& image, const Cut& cut, std::uint8_t* out);

}  // namespace halfstep
