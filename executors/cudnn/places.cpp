// Makers of GatherElements, GatherND, ScatterElements and ScatterND, by generated kernels.
#include <limits>
#include <optional>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/index_order.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/place_text.h"
#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;

/// Where the elements lie, and the text that finds them.
struct Places {
  PlaceArguments arguments{};
  std::string text;
  std::string refusal = {};
};

/// Why there is no kernel; empty when there may be one. The kernels trust shapes: those that the reference kernels
/// refuse are left to them.
std::string refusal_of(KernelContext& context) {
  if (std::string reason = generation_refusal(); !reason.empty()) return reason;
  if (index_name(context.in(1).dtype).empty()) return "indices that are neither i32 nor i64";
  // Updates are sorted as 32-bit numbers.
  if (context.in(1).shape.count() > std::numeric_limits<std::int32_t>::max()) return "2^31 indices or more";
  return {};
}

/// Of indices along one axis of the data.
Places places_of_indices(KernelContext& context) {
  Places found;
  if (found.refusal = refusal_of(context); !found.refusal.empty()) return found;
  const Shape &data = context.in(0).shape, &indices = context.in(1).shape;
  if (data.rank() > static_cast<std::size_t>(PlaceArguments::kAxes)) {
    found.refusal = "more than 8 axes";
    return found;
  }
  if (indices.rank() != data.rank()) {
    found.refusal = "indices of another rank than the data's";
    return found;
  }
  const std::size_t axis = normalize_axis(context.node().attributes.get_int("axis", 0), data.rank());
  for (std::size_t i = 0; i < data.rank(); ++i)
    if (i != axis && indices[i] > data[i]) found.refusal = "indices that are larger than the data beside the axis";
  if (!found.refusal.empty()) return found;
  PlaceArguments& a = found.arguments;
  const std::vector<std::int64_t> steps = data.strides();
  a.inner = 1;
  a.places = indices.count();
  a.axis_extent = data[axis];
  a.axis_step = steps[axis];
  for (std::size_t i = 0; i < data.rank(); ++i) {
    a.extents[i] = indices[i];
    a.steps[i] = i == axis ? 0 : steps[i];
  }
  found.text = filled(kPlaceOfIndexText, {{"index", index_name(context.in(1).dtype)},
                                          {"position", position_of(indices.count())},
                                          {"axes", std::to_string(data.rank())}});
  return found;
}

/// Of tuples of indices: the last axis of input 1.
Places places_of_tuples(KernelContext& context) {
  Places found;
  if (found.refusal = refusal_of(context); !found.refusal.empty()) return found;
  const Shape &data = context.in(0).shape, &indices = context.in(1).shape;
  const std::int64_t batch_dims = context.node().attributes.get_int("batch_dims", 0);
  if (batch_dims < 0 || batch_dims >= static_cast<std::int64_t>(indices.rank())) {
    found.refusal = "indices whose rank is not above batch_dims";
    return found;
  }
  const auto batch = static_cast<std::size_t>(batch_dims);
  const auto length = static_cast<std::size_t>(indices[indices.rank() - 1]);
  if (length > data.rank() || batch > data.rank() - length) {
    found.refusal = "indices that are deeper than the data";
    return found;
  }
  for (std::size_t i = 0; i < batch; ++i)
    if (indices[i] != data[i]) found.refusal = "batches of different extents";
  if (!found.refusal.empty()) return found;
  PlaceArguments& a = found.arguments;
  if (length > static_cast<std::size_t>(PlaceArguments::kAxes)) {
    found.refusal = "more than 8 axes";
    return found;
  }
  a.places = indices.count(0, indices.rank() - 1);
  a.inner = data.count(batch + length, data.rank());
  a.per_batch = indices.count(batch, indices.rank() - 1);
  a.batch_step = data.count(batch, batch + length);
  for (std::size_t t = 0; t < length; ++t) {
    a.extents[t] = data[batch + t];
    a.steps[t] = data.count(batch + t + 1, batch + length);
  }
  found.text =
      filled(kPlaceOfTupleText, {{"index", index_name(context.in(1).dtype)}, {"axes", std::to_string(length)}});
  return found;
}

std::shared_ptr<const LoadedKernel> load(KernelContext& context, const char* name, const std::string& text) {
  return load_text(context, name, "PlaceArguments", kPlaceArgumentsText, text);
}

Made gather(KernelContext& context, Places places) {
  if (!places.refusal.empty()) return refuse(places.refusal);
  const auto kernel = load(context, "gather_places",
                           places.text + filled(kGatherPlacesText, {{"element", word_of(context.in(0).dtype)}}));
  PlaceArguments a = places.arguments;
  a.count = context.out(0).shape.count();
  return on_device(context, {.name = "generated: gather", .launch = [=](const Launch& l) {
                               PlaceArguments with = a;
                               with.data = l.in[0];
                               with.indices = l.in[1];
                               with.result = l.out[0];
                               kernel->launch(blocks_for(a.count, kThreads), kThreads, as_argument(with), l.stream);
                             }});
}

/// The function that combines an element with an update, of kernels/device_text.h or of the text itself; empty for
/// none, which replaces it.
std::optional<std::string_view> combination_of(const Node& node) {
  constexpr std::pair<std::string_view, std::string_view> kKnown[] = {
      {"none", ""}, {"add", "add"}, {"mul", "multiply"}, {"max", "larger"}, {"min", "smaller"}};
  const std::string reduction = node.attributes.get_string("reduction", "none");
  for (const auto& [name, function] : kKnown)
    if (reduction == name) return function;
  return std::nullopt;
}

Made scatter(KernelContext& context, Places places, const Shape& updates) {
  if (!places.refusal.empty()) return refuse(places.refusal);
  if (context.in(2).shape != updates || context.in(2).dtype != context.in(0).dtype)
    return refuse("updates that do not fit");
  const DType dtype = context.in(0).dtype;
  const auto combine = combination_of(context.node());
  if (!combine) return refuse("an unknown reduction");
  if (!combine->empty() && dtype == DType::boolean) return refuse("truth values are not combined");
  PlaceArguments a = places.arguments;
  a.count = context.in(0).shape.count();
  if (a.count == 0) return refuse("no elements");
  const std::int64_t places_of_data = a.count / a.inner;
  if (places_of_data >= std::numeric_limits<std::int32_t>::max()) return refuse("2^31 places or more");
  const IndexOrder order(context, a.places, places_of_data);
  const auto keys = load(context, "place_keys", places.text + std::string(kPlaceKeysText));
  const auto before = std::string(kUpdatesBeforeText);
  const auto apply =
      combine->empty()
          ? load(context, "replace_places", before + filled(kReplacePlacesText, {{"element", word_of(dtype)}}))
          : load(context, "combine_places",
                 before + filled(kCombinePlacesText, {{"element", element_name(dtype)}, {"combine", *combine}}));
  const auto launch = [=](const Launch& l) {
    PlaceArguments with = a;
    with.data = l.in[0];
    with.indices = l.in[1];
    with.updates = l.in[2];
    with.result = l.out[0];
    with.keys = order.indices(l.scratch);
    keys->launch(blocks_for(a.places, kThreads), kThreads, as_argument(with), l.stream);
    const IndexOrder::Sorted sorted = order.sort(l.scratch, l.stream);
    with.keys = const_cast<int*>(sorted.indices);
    with.order = sorted.places;
    apply->launch(blocks_for(a.count, kThreads), kThreads, as_argument(with), l.stream);
  };
  return on_device(context, {.name = "generated: scatter", .launch = launch, .scratch_bytes = order.scratch_bytes()});
}

}  // namespace

Made make_gather_elements(KernelContext& context) { return gather(context, places_of_indices(context)); }
Made make_gather_nd(KernelContext& context) { return gather(context, places_of_tuples(context)); }
Made make_scatter_elements(KernelContext& context) {
  return scatter(context, places_of_indices(context), context.in(1).shape);
}
Made make_scatter_nd(KernelContext& context) {
  Places places = places_of_tuples(context);
  if (!places.refusal.empty()) return refuse(places.refusal);
  const Shape &data = context.in(0).shape, &indices = context.in(1).shape;
  const std::size_t last = indices.rank() - 1;
  std::vector<std::int64_t> updates(indices.begin(), indices.begin() + static_cast<std::ptrdiff_t>(last));
  updates.insert(updates.end(), data.begin() + indices[last], data.end());
  return scatter(context, std::move(places), Shape(std::move(updates)));
}

}  // namespace halfstep::cudnn
