// JPEG and PNG files for tests, made by the libraries that read them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <spng.h>

namespace halfstep::testing {

/// Pixels [height, width, channels] by a rule.
inline std::vector<std::uint8_t> pixels(int height, int width, int channels,
                                        const std::function<int(int y, int x, int c)>& rule) {
  std::vector<std::uint8_t> result;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c) result.push_back(static_cast<std::uint8_t>(rule(y, x, c)));
  return result;
}

/// A PNG file of rows of `bits` deep pixels, as one of spng's color types; `exif` is TIFF.
inline std::string png_of(int height, int width, int color_type, const std::vector<std::uint8_t>& rows, int bits = 8,
                          std::string exif = {}) {
  const std::unique_ptr<spng_ctx, void (*)(spng_ctx*)> png(spng_ctx_new(SPNG_CTX_ENCODER), spng_ctx_free);
  spng_set_option(png.get(), SPNG_ENCODE_TO_BUFFER, 1);
  spng_ihdr header{};
  header.height = static_cast<std::uint32_t>(height);
  header.width = static_cast<std::uint32_t>(width);
  header.color_type = static_cast<std::uint8_t>(color_type);
  header.bit_depth = static_cast<std::uint8_t>(bits);
  spng_set_ihdr(png.get(), &header);
  if (!exif.empty()) {
    spng_exif chunk{.length = exif.size(), .data = exif.data()};
    spng_set_exif(png.get(), &chunk);
  }
  if (spng_encode_image(png.get(), rows.data(), rows.size(), SPNG_FMT_RAW, SPNG_ENCODE_FINALIZE) != 0) std::abort();
  std::size_t size = 0;
  int error = 0;
  const std::unique_ptr<void, void (*)(void*)> bytes(spng_get_png_buffer(png.get(), &size, &error), std::free);
  return {static_cast<const char*>(bytes.get()), size};
}

struct JpegForm {
  J_COLOR_SPACE space = JCS_RGB;
  bool progressive = false;
  std::string exif = {};
};

inline std::string jpeg_of(int height, int width, const std::vector<std::uint8_t>& rows, const JpegForm& form = {}) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.input_components = form.space == JCS_GRAYSCALE ? 1 : form.space == JCS_CMYK ? 4 : 3;
  jpeg.in_color_space = form.space;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 100, TRUE);
  if (form.progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  if (!form.exif.empty())
    jpeg_write_marker(&jpeg, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(form.exif.data()),
                      static_cast<unsigned>(form.exif.size()));
  while (jpeg.next_scanline < jpeg.image_height) {
    auto* row = const_cast<JSAMPLE*>(rows.data()) +
                std::size_t{jpeg.next_scanline} * jpeg.image_width * static_cast<std::size_t>(jpeg.input_components);
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  std::string result(reinterpret_cast<const char*>(bytes), size);
  jpeg_destroy_compress(&jpeg);
  std::free(bytes);
  return result;
}

/// EXIF with an orientation, in one of TIFF's two byte orders.
inline std::string exif_of(int orientation, bool big) {
  using namespace std::string_literals;
  const auto c = static_cast<char>(orientation);
  return "Exif\0\0"s + (big ? "MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"s + c + "\0\0\0\0\0\0"s
                            : "II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"s + c + "\0\0\0\0\0\0\0"s);
}

}  // namespace halfstep::testing
