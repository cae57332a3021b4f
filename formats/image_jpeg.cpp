#include <array>
#include <csetjmp>
#include <cstdio>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <jerror.h>
#include <jpeglib.h>

#include "formats/image.h"

namespace halfstep {
namespace {

// More scans indicate an image made to exhaust the decoder: each scan covers the whole image.
constexpr int kMostScans = 256;
constexpr std::string_view kTooManyScans = "more than 256 scans";
static_assert(kTooManyScans.size() < JMSG_LENGTH_MAX);
constexpr int kExif = JPEG_APP0 + 1;
constexpr std::string_view kExifHead("Exif\0\0", 6);

/// libjpeg returns from errors by longjmp, over frames without destructors.
struct Errors {
  jpeg_error_mgr manager = {};
  jpeg_progress_mgr progress = {};
  std::jmp_buf jump = {};
  std::array<char, JMSG_LENGTH_MAX> text = {};
};

Errors& errors_of(j_common_ptr jpeg) { return *static_cast<Errors*>(jpeg->client_data); }

[[noreturn]] void leave(j_common_ptr jpeg) {
  jpeg->err->format_message(jpeg, errors_of(jpeg).text.data());
  std::longjmp(errors_of(jpeg).jump, 1);
}

/// Ignores warnings (below 0) that do not affect the pixels; after others, libjpeg invents pixels.
void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  switch (jpeg->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_TOO_MUCH_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
      return;
    default:
      leave(jpeg);
  }
}

void on_progress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kMostScans) return;
  kTooManyScans.copy(errors_of(jpeg).text.data(), kTooManyScans.size());  // all zeros before
  std::longjmp(errors_of(jpeg).jump, 1);
}

class Decoder {
 public:
  Decoder() {
    jpeg_.err = jpeg_std_error(&errors_.manager);
    errors_.manager.error_exit = leave;
    errors_.manager.emit_message = on_message;
    errors_.progress.progress_monitor = on_progress;
    jpeg_.client_data = &errors_;
  }
  ~Decoder() { jpeg_destroy_decompress(&jpeg_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// False if libjpeg failed; the error is then in `text`.
  bool read_header(const std::byte* bytes, std::size_t size) {
    if (setjmp(errors_.jump) != 0) return false;
    jpeg_create_decompress(&jpeg_);
    jpeg_.progress = &errors_.progress;
    jpeg_save_markers(&jpeg_, kExif, 0xffff);
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(bytes), size);
    jpeg_read_header(&jpeg_, TRUE);
    return true;
  }
  bool read_pixels(std::uint8_t* out) {
    if (setjmp(errors_.jump) != 0) return false;
    jpeg_.out_color_space = JCS_RGB;
    jpeg_.dct_method = JDCT_ISLOW;
    jpeg_start_decompress(&jpeg_);
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW row = out + std::size_t{jpeg_.output_scanline} * jpeg_.output_width * 3;
      jpeg_read_scanlines(&jpeg_, &row, 1);
    }
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

  const jpeg_decompress_struct& jpeg() const { return jpeg_; }
  const char* text() const { return errors_.text.data(); }

 private:
  jpeg_decompress_struct jpeg_ = {};
  Errors errors_;
};

int orientation_of(const jpeg_decompress_struct& jpeg) {
  for (jpeg_saved_marker_ptr marker = jpeg.marker_list; marker; marker = marker->next) {
    const std::string_view content(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (!content.starts_with(kExifHead)) continue;
    if (const int orientation = exif_orientation(content.substr(kExifHead.size())); orientation != 1)
      return orientation;
  }
  return 1;
}

}  // namespace

Image decode_jpeg(std::span<const std::byte> bytes, const BeforePixels& before) {
  Decoder decoder;
  if (!decoder.read_header(bytes.data(), bytes.size())) throw std::runtime_error(decoder.text());
  const jpeg_decompress_struct& jpeg = decoder.jpeg();
  check_extents(jpeg.image_height, jpeg.image_width, before);
  if (jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK)
    throw std::runtime_error("it is in CMYK, and RGB or grey is read");
  Image image{jpeg.image_height, jpeg.image_width, 3, {}};
  image.pixels.resize(static_cast<std::size_t>(image.height * image.width * 3));
  const int orientation = orientation_of(jpeg);
  if (!decoder.read_pixels(image.pixels.data())) throw std::runtime_error(decoder.text());
  return turned(std::move(image), orientation);
}

}  // namespace halfstep
