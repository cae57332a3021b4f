// Rows of pixels from JPEG and PNG files.
#pragma once

#include <cstdint>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Conversion of an image to a row u8 [height, width, channels]: resized (bilinear, antialiased) to cover the row's
/// extents, and cropped at the centre.
struct ImageOptions {
  std::int64_t height = 0, width = 0;  ///< required; 0 is an error
  std::int64_t channels = 3;           ///< 3: RGB, 1: grey
  /// Fraction of the image that a row shows, if the image is large enough: the shorter side is resized to 1 / crop of
  /// the row's. Images are not enlarged for it.
  double crop = 0.875;
  // For training only: rows differ between epochs. The random numbers follow from seed, epoch and row.
  bool random_crop = false;  ///< crop at a random position
  bool random_flip = false;  ///< mirror horizontally with probability 1/2
};

}  // namespace halfstep
