// Rows of pixels from JPEG and PNG files.
#pragma once

#include <cstdint>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// How a picture becomes a row u8 [height, width, channels]. It is resized (bilinear, antialiased) so that it covers
/// the row's extents, and the row is cut out of its centre.
struct ImageOptions {
  std::int64_t height = 0, width = 0;  ///< to be given; 0 is refused
  std::int64_t channels = 3;           ///< 3: RGB, 1: grey
  /// How much of a picture a row shows, where the picture is large enough: the shorter side is resized to 1 / crop of
  /// the row's. No picture is enlarged for it.
  double crop = 0.875;
  // For training alone: rows differ from epoch to epoch. What is drawn follows from seed, epoch and row.
  bool random_crop = false;  ///< the row is cut out anywhere
  bool random_flip = false;  ///< left and right are exchanged in every other row
};

}  // namespace halfstep
