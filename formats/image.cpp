#include "formats/image.h"

#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include <halfstep/base/error.h>

namespace halfstep {

void check_extents(std::int64_t height, std::int64_t width, const BeforePixels& before) {
  if (height <= 0 || width <= 0) throw std::runtime_error("it has no pixels");
  if (width > kMostPixels / height)
    throw std::runtime_error(fmt::format("{} x {} pixels are more than {}", width, height, kMostPixels));
  if (before) before(height * width);
}

Image decode_image(std::span<const std::byte> bytes, const std::string& file, const BeforePixels& before) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  try {
    if (text.starts_with("\xff\xd8\xff")) return decode_jpeg(bytes, before);
    if (text.starts_with("\x89PNG")) return decode_png(bytes, before);
  } catch (const std::runtime_error& error) {
    throw_input_error("a readable image", fmt::format("{}: {}", file, error.what()),
                      "replace the file, or take it out of the folder");
  }
  throw_input_error("a JPEG or PNG file", fmt::format("{}, which is neither", file),
                    "convert the file, or take it out of the folder");
}

int exif_orientation(std::string_view tiff) {
  const bool big = tiff.starts_with("MM");
  const auto number = [&](std::size_t at, std::size_t size) -> std::optional<std::size_t> {
    if (at > tiff.size() || tiff.size() - at < size) return {};
    std::size_t value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value = value << 8 | static_cast<unsigned char>(tiff[at + (big ? i : size - 1 - i)]);
    return value;
  };
  const std::optional<std::size_t> directory = number(4, 4);
  const std::optional<std::size_t> entries = directory ? number(*directory, 2) : directory;
  for (std::size_t i = 0; entries && i < *entries; ++i) {
    constexpr std::size_t kOrientation = 0x112, kEntryBytes = 12;
    const std::size_t at = *directory + 2 + i * kEntryBytes;
    const std::optional<std::size_t> tag = number(at, 2), value = number(at + 8, 2);
    if (!tag || !value) return 1;
    if (*tag == kOrientation) return static_cast<int>(*value);
  }
  return 1;
}

Image turned(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  // Whether to transpose, then whether to flip the image horizontally and vertically.
  struct Turn {
    bool transposed, mirrored, upside_down;
  };
  static constexpr std::array<Turn, 9> kTurns{{{false, false, false},
                                               {false, false, false},
                                               {false, true, false},
                                               {false, true, true},
                                               {false, false, true},
                                               {true, false, false},
                                               {true, true, false},
                                               {true, true, true},
                                               {true, false, true}}};
  const Turn turn = kTurns[orientation];
  Image result{turn.transposed ? image.width : image.height, turn.transposed ? image.height : image.width,
               image.channels, std::vector<std::uint8_t>(image.pixels.size())};
  std::uint8_t* out = result.pixels.data();
  for (std::int64_t y = 0; y < result.height; ++y)
    for (std::int64_t x = 0; x < result.width; ++x) {
      std::int64_t from_y = turn.upside_down ? result.height - 1 - y : y;
      std::int64_t from_x = turn.mirrored ? result.width - 1 - x : x;
      if (turn.transposed) std::swap(from_y, from_x);
      const std::uint8_t* from = image.pixels.data() + (from_y * image.width + from_x) * image.channels;
      for (std::int64_t c = 0; c < image.channels; ++c) *out++ = from[c];
    }
  return result;
}

Image grey(const Image& image) {
  Image result{image.height, image.width, 1, {}};
  result.pixels.resize(image.pixels.size() / 3);
  for (std::size_t i = 0; i < result.pixels.size(); ++i) {
    const std::uint8_t* rgb = image.pixels.data() + 3 * i;
    // In fixed point with 16 fractional bits: 0.299, 0.587 and 0.114, which sum to 1.
    result.pixels[i] = static_cast<std::uint8_t>((19595U * rgb[0] + 38470U * rgb[1] + 7471U * rgb[2] + 0x8000U) >> 16);
  }
  return result;
}

}  // namespace halfstep
