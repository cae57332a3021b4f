#include "cli/image_flags.h"

#include <fmt/format.h>

#include "cli/validators.h"
#include <halfstep/base/error.h>

namespace halfstep::cli {
namespace {

bool is_channels(std::int64_t extent) { return extent == 1 || extent == 3; }

/// Reads the image extents from the input's shape [batch, …]; returns false if it is not a shape of images.
bool take_extents(const Shape& shape, ImageOptions& options) {
  const auto take = [&](std::int64_t height, std::int64_t width, std::int64_t channels) {
    if (height > 0 && options.height == 0) options.height = height;
    if (width > 0 && options.width == 0) options.width = width;
    options.channels = channels;
    return true;
  };
  if (!shape.is_ranked()) return false;
  if (shape.rank() == 4 && is_channels(shape[1])) return take(shape[2], shape[3], shape[1]);
  if (shape.rank() == 4 && is_channels(shape[3])) return take(shape[1], shape[2], shape[3]);
  if (shape.rank() == 3) return take(shape[1], shape[2], 1);
  // Flat rows determine the number of channels if the size is given.
  const std::int64_t area = options.height * options.width;
  if (shape.rank() != 2 || area == 0 || shape[1] % area != 0 || !is_channels(shape[1] / area)) return false;
  return take(0, 0, shape[1] / area);
}

}  // namespace

void ImageFlags::add_to(CLI::App& command) {
  command
      .add_option("--image-size", size,
                  "height and width to which images are resized, or one number for both (default: the model's)")
      ->delimiter(',')
      ->expected(1, 2)
      ->type_name("N[,N]")
      ->check(whole_number(1, std::uint64_t{1} << 14));
  command
      .add_option("--image-crop", crop,
                  fmt::format("fraction of an image's shorter side to keep; it is cropped at the centre{}",
                              command.get_option_no_throw("--augment") ? " or (--augment) at a random position" : ""))
      ->capture_default_str()
      ->check(number_in(0.01, 1));
}

ImageOptions ImageFlags::options(const Graph& model) const {
  ImageOptions options{.crop = crop};
  if (!size.empty()) {
    options.height = size.front();
    options.width = size.back();
  }
  for (const ValueId id : model.inputs)
    if (take_extents(model[id].shape, options)) break;
  return options;
}

void AugmentFlag::add_to(CLI::App& command) {
  command
      .add_option(
          "--augment", names,
          "random transforms of images of --data: crop (at a random position), flip (horizontally), both, or none")
      ->capture_default_str()
      ->type_name("LIST")
      ->check(suggested({"crop,flip", "crop", "flip", "none"}));
}

void AugmentFlag::apply(ImageOptions& options) const {
  if (names == "none") return;
  for (const std::string& name : CLI::detail::split(names, ',')) {
    if (name != "crop" && name != "flip")
      throw_input_error("crop, flip, both separated by a comma, or none for --augment", fmt::format("'{}'", names), "");
    (name == "crop" ? options.random_crop : options.random_flip) = true;
  }
}

}  // namespace halfstep::cli
