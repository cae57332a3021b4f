#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/philox.h"
#include "formats/image.h"
#include "formats/image_folder.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kImageStream = 0x696d6167;  // separates these numbers from other uses of the same seed

/// Images with more pixels are read one at a time, so that memory does not grow with the number of threads.
constexpr std::int64_t kManyPixels = std::int64_t{1} << 24;

/// Uniform in [0, most].
std::int64_t draw_up_to(std::int64_t most, std::uint32_t bits) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(most + 1) * bits >> 32);
}

Cut cut_of(const Image& image, const ImageOptions& options, std::int64_t row, const RowDraw& draw) {
  const auto height = static_cast<double>(image.height), width = static_cast<double>(image.width);
  const double cover =
      std::max(static_cast<double>(options.height) / height, static_cast<double>(options.width) / width);
  const double factor = std::max(cover, std::min(1.0, cover / options.crop));
  constexpr double kRounding = 1e-6;  // tolerance for whole numbers that are inexact due to the factor
  const auto resized = [&](double extent, std::int64_t least) {
    return std::max(least, static_cast<std::int64_t>(extent * factor + kRounding));
  };
  Cut cut{.resized_height = resized(height, options.height),
          .resized_width = resized(width, options.width),
          .height = options.height,
          .width = options.width};
  const std::int64_t free_rows = cut.resized_height - cut.height, free_columns = cut.resized_width - cut.width;
  const PhiloxCounter bits = philox4x32_10({static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(row >> 32),
                                            static_cast<std::uint32_t>(draw.epoch), kImageStream},
                                           philox_key(draw.seed));
  const auto middle = [](std::int64_t free) { return std::llrint(static_cast<double>(free) / 2); };
  cut.top = options.random_crop ? draw_up_to(free_rows, bits[0]) : middle(free_rows);
  cut.left = options.random_crop ? draw_up_to(free_columns, bits[1]) : middle(free_columns);
  cut.flipped = options.random_flip && (bits[2] >> 31) != 0;
  return cut;
}

void make_row(const fs::path& path, const ImageOptions& options, std::int64_t row, const RowDraw& draw,
              std::uint8_t* out) {
  static std::mutex of_large_images;
  std::unique_lock turn(of_large_images, std::defer_lock);
  const SharedBytes bytes = SharedBytes::of_file(path);
  Image image = decode_image(bytes.span(), path.string(), [&](std::int64_t pixels) {
    if (pixels > kManyPixels) turn.lock();
  });
  bytes.check_intact(path.string());
  if (options.channels == 1) image = grey(image);
  resize_and_cut(image, cut_of(image, options, row, draw), out);
}

/// Calls `make(i)` for each i below `count`, by up to `threads` threads. Rethrows the first exception.
template <class Make>
void for_each_row(std::size_t count, unsigned threads, const Make& make) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::size_t failed = count;
  std::exception_ptr error;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) try {
        make(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
      }
  };
  std::vector<std::thread> helpers;
  helpers.reserve(std::min<std::size_t>(threads, count));  // not while threads run that it would leave behind
  try {
    while (helpers.size() + 1 < std::min<std::size_t>(threads, count)) helpers.emplace_back(work);
  } catch (const std::system_error&) {  // no more threads are available
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace

DataArray image_rows(std::string name, std::vector<fs::path> paths, const ImageOptions& options, unsigned threads) {
  if (options.height < 1 || options.width < 1 || (options.channels != 1 && options.channels != 3) ||
      options.width > kMostPixels / std::max<std::int64_t>(options.height, 1))
    throw_input_error("a height and a width of images, and 1 or 3 channels",
                      fmt::format("{} x {} x {}", options.height, options.width, options.channels),
                      "--image-size HEIGHT,WIDTH if the model does not fix them");
  if (!(options.crop > 0 && options.crop <= 1))
    throw_input_error("a fraction of images above 0 and at most 1", fmt::format("{}", options.crop),
                      "check --image-crop");
  const auto rows = static_cast<std::int64_t>(paths.size());
  const Shape shape{options.height, options.width, options.channels};
  const auto row_bytes = static_cast<std::size_t>(shape.count());
  auto files = std::make_shared<const std::vector<fs::path>>(std::move(paths));
  const auto make = [=](std::span<const std::int64_t> numbers, const RowDraw& draw, void* out) {
    for_each_row(numbers.size(), threads, [&](std::size_t i) {
      make_row((*files)[numbers[i]], options, numbers[i], draw, static_cast<std::uint8_t*>(out) + i * row_bytes);
    });
  };
  return DataArray::made(std::move(name), {DType::u8, shape}, rows, make);
}

}  // namespace halfstep
