#include "executors/cudnn/text_kernel.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/kernels/device_text.h"

namespace halfstep::cudnn {

std::string_view float_name(DType dtype) { return is_float(dtype) ? element_name(dtype) : std::string_view(); }

std::string_view word_of(std::size_t bytes) {
  switch (bytes) {
    case 1:
      return "unsigned char";
    case 2:
      return "unsigned short";
    case 4:
      return "u32";
    case 8:
      return "u64";
    default:
      return "Vector<u64, 2>";
  }
}

std::int64_t moved_together(DType dtype, std::initializer_list<std::span<const std::int64_t>> counts) {
  auto together = static_cast<std::int64_t>(16 / bytes_of(dtype, 1));
  for (const std::span<const std::int64_t> some : counts)
    for (const std::int64_t count : some) together = std::gcd(together, count);
  return together;
}

std::string_view position_of(std::int64_t count) {
  return count <= std::numeric_limits<std::int32_t>::max() ? "u32" : "u64";
}

std::string_view index_name(DType dtype) {
  return dtype == DType::i32 ? "int" : dtype == DType::i64 ? "i64" : std::string_view();
}

std::string filled(std::string_view text, std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  std::string result(text);
  for (const auto& [name, value] : values) {
    const std::string place = fmt::format("{{{}}}", name);
    for (std::size_t at = 0; (at = result.find(place, at)) != std::string::npos; at += value.size())
      result.replace(at, place.size(), value);
  }
  return result;
}

std::shared_ptr<const LoadedKernel> load_text(KernelContext& context, std::string name, std::string argument,
                                              std::string_view arguments, std::string_view text) {
  return load_kernel({std::move(name), std::move(argument), fmt::format("{}{}\n{}", kDeviceText, arguments, text)},
                     libraries(context).capability);
}

unsigned blocks_for(std::int64_t count, unsigned per_block) {
  constexpr std::int64_t kMost = 1 << 20;
  return static_cast<unsigned>(std::clamp<std::int64_t>(pieces_of(count, per_block), 1, kMost));
}

}  // namespace halfstep::cudnn
