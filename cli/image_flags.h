// Conversion of images to rows of data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <halfstep/formats/images.h>
#include <halfstep/graph/graph.h>

namespace halfstep::cli {

/// --image-size and --image-crop.
struct ImageFlags {
  std::vector<std::int64_t> size;
  double crop = ImageOptions().crop;

  void add_to(CLI::App& command);
  /// Height, width and channels of the first input of the model that has a shape of images; --image-size takes
  /// precedence.
  ImageOptions options(const Graph& model) const;
};

/// --augment: random transforms for training.
struct AugmentFlag {
  std::string names = "crop,flip";

  void add_to(CLI::App& command);
  /// Throws Error(input) for unknown names.
  void apply(ImageOptions& options) const;
};

}  // namespace halfstep::cli
