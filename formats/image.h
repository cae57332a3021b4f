// Images in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
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

/// Maximum number of pixels of an image; larger ones are rejected before memory is allocated.
inline constexpr std::int64_t kMostPixels = std::int64_t{1} << 27;

/// Called with the number of pixels before memory for them is allocated.
using BeforePixels = std::function<void(std::int64_t pixels)>;

/// Decodes a JPEG or PNG image to RGB, rotated according to its EXIF orientation. Drops alpha, and reduces 16 bits to
/// 8. Throws Error(input), which names the file, for an image that is damaged, truncated, too large, CMYK, or in
/// another format.
Image decode_image(std::span<const std::byte> bytes, const std::string& file, const BeforePixels& before = {});

// The parts of decode_image. Their exceptions describe the error in the image.
Image decode_jpeg(std::span<const std::byte> bytes, const BeforePixels& before);  ///< throws std::runtime_error
Image decode_png(std::span<const std::byte> bytes, const BeforePixels& before);   ///< throws std::runtime_error
/// Throws std::runtime_error for an image without pixels, or with more than kMostPixels; then calls `before`.
void check_extents(std::int64_t height, std::int64_t width, const BeforePixels& before);

/// The value of the tag Orientation (0x112) in the first directory of EXIF's TIFF; 1 if there is none.
int exif_orientation(std::string_view tiff);
/// The upright image, from one of EXIF's eight orientations: 1 is upright.
Image turned(Image image, int orientation);
/// The luma of RGB (ITU-R 601), in one channel.
Image grey(const Image& image);

/// The position of a row in a resized image.
struct Cut {
  std::int64_t resized_height = 0, resized_width = 0;  ///< of the whole image
  std::int64_t top = 0, left = 0, height = 0, width = 0;
  bool flipped = false;
};

/// A part of the image, resized with a triangle filter that widens for downscaling: bitwise equal to resizing the whole
/// with Pillow's Image.resize(…, BILINEAR) and cropping it. `out` has space for the part.
void resize_and_cut(const Image& image, const Cut& cut, std::uint8_t* out);

}  // namespace halfstep
