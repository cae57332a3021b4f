#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

#include <spng.h>

#include "formats/image.h"

namespace halfstep {
namespace {

// Size limits of one stored chunk (text, a profile), and of all of them.
constexpr std::size_t kMostChunk = std::size_t{1} << 20, kMostChunks = std::size_t{1} << 24;

void require(int code) {
  if (code != 0) throw std::runtime_error(spng_strerror(code));
}

int orientation_of(spng_ctx* png) {
  spng_exif exif{};
  if (spng_get_exif(png, &exif) != 0) return 1;  // there is none
  return exif_orientation({exif.data, exif.length});
}

}  // namespace

Image decode_png(std::span<const std::byte> bytes, const BeforePixels& before) {
  const std::unique_ptr<spng_ctx, void (*)(spng_ctx*)> png(spng_ctx_new(0), spng_ctx_free);
  if (!png) throw std::bad_alloc();
  require(spng_set_chunk_limits(png.get(), kMostChunk, kMostChunks));
  require(spng_set_png_buffer(png.get(), bytes.data(), bytes.size()));
  spng_ihdr header{};
  require(spng_get_ihdr(png.get(), &header));
  check_extents(header.height, header.width, before);
  Image image{header.height, header.width, 3, {}};
  std::size_t size = 0;
  require(spng_decoded_image_size(png.get(), SPNG_FMT_RGB8, &size));
  image.pixels.resize(size);
  require(spng_decode_image(png.get(), image.pixels.data(), size, SPNG_FMT_RGB8, 0));
  return turned(std::move(image), orientation_of(png.get()));
}

}  // namespace halfstep
