// Makers of random numbers and of dropout, by counters, and of dropout that drops nothing.
#include <cmath>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/device_text.h"
#include "executors/cudnn/kernels/random_text.h"
#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {

Made make_philox_dropout(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const DType dtype = context.in(0).dtype;
  if (float_name(dtype).empty()) return refuse("elements that are not f32, f16 or bf16");
  const std::optional<double> ratio = context.constant_scalar(1);
  if (!ratio || !(*ratio >= 0 && *ratio < 1)) return refuse("a ratio that is computed, or not in [0, 1)");
  DropoutArguments a{};
  a.count = context.in(0).shape.count();
  a.seed = static_cast<std::uint64_t>(context.node().attributes.get_int("seed", 0));
  a.stream = static_cast<std::uint32_t>(context.node().attributes.get_int("stream", 0));
  a.threshold = static_cast<std::uint32_t>(std::ceil(*ratio * 0x1p24));
  a.scale = static_cast<float>(1 / (1 - *ratio));
  const auto kernel = load_text(context, "dropout", "DropoutArguments", kDropoutArgumentsText,
                                std::string(kPhiloxText) + filled(kDropoutText, {{"element", float_name(dtype)}}));
  return on_device(context, {.name = "generated: dropout", .launch = [=](const Launch& l) {
                               DropoutArguments with = a;
                               with.x = l.in[0];
                               with.counter = static_cast<const long long*>(l.in[2]);
                               with.y = l.out[0];
                               with.mask = l.out.size() > 1 ? static_cast<bool*>(l.out[1]) : nullptr;
                               kernel->launch(blocks_for((a.count + 3) / 4, 256), 256, as_argument(with), l.stream);
                             }});
}

Made make_philox_random(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const Attributes& attributes = context.node().attributes;
  const bool is_normal = attributes.get_int("normal", 0) != 0;
  RandomArguments a{};
  a.count = context.out(0).shape.count();
  if (a.count == 0 || context.out(0).dtype != DType::f32) return refuse("numbers that are not f32, or none");
  a.seed = static_cast<std::uint64_t>(attributes.get_int("seed", 0));
  a.stream = static_cast<std::uint32_t>(attributes.get_int("stream", 0));
  a.first = attributes.get_float("first", 0);
  a.spread = attributes.get_float("spread", 1);
  a.end = a.first + a.spread;
  a.below_end = a.spread == 0 ? a.end : std::nextafter(a.end, a.first);
  // Rounded as in the other executors, which draw the same numbers.
  const auto kernel =
      load_kernel({"random_numbers", "RandomArguments",
                   fmt::format("{}{}{}\n{}{}", kNotContracted, kDeviceText, kRandomArgumentsText, kPhiloxText,
                               filled(kRandomText, {{"normal", is_normal ? "true" : "false"}}))},
                  libraries(context).capability);
  return on_device(context, {.name = "generated: random numbers", .launch = [=](const Launch& l) {
                               RandomArguments with = a;
                               with.counter = static_cast<const long long*>(l.in[0]);
                               with.y = static_cast<float*>(l.out[0]);
                               kernel->launch(blocks_for((a.count + 3) / 4, 256), 256, as_argument(with), l.stream);
                             }});
}

Made make_dropout(KernelContext& context) {
  const bool drops = context.has_input(2) && context.constant_scalar(2) != 0;
  const std::optional<double> ratio = context.has_input(1) ? context.constant_scalar(1) : 0.5;
  if (drops && ratio != 0) return refuse("the numbers of ONNX's own Dropout are drawn one after the other");
  const Value& x = context.in(0);
  const std::size_t count = static_cast<std::size_t>(x.shape.count()), bytes = bytes_of(x.dtype, count);
  return on_device(context, {.name = "own: copy",
                             .launch =
                                 [=](const Launch& l) {
                                   if (bytes > 0 && l.out[0] && l.out[0] != l.in[0])
                                     check(
                                         cudaMemcpyAsync(l.out[0], l.in[0], bytes, cudaMemcpyDeviceToDevice, l.stream),
                                         "cudaMemcpyAsync");
                                   if (bytes > 0 && l.out.size() > 1 && l.out[1])
                                     check(cudaMemsetAsync(l.out[1], 1, count, l.stream), "cudaMemsetAsync");
                                 },
                             .overwrites = {0}});
}

}  // namespace halfstep::cudnn
