// Makers of the optimizers, the gradient norm and the loss scale: kernels over lists of tensors.
#include "ops/optimizers/optimizer.h"

#include <algorithm>
#include <cstring>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/list_arguments.h"
#include "executors/cudnn/kernels/row_arguments.h"
#include "executors/cudnn/text_kernel.h"
#include "executors/cudnn/update_text.h"
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::cudnn {
namespace {

constexpr unsigned kThreads = 256;

/// The operands of one tensor of a list, and those that it gives.
struct Member {
  std::vector<core::Operand> in, out;
  core::Operand copy{};  ///< of the first output
};

/// A list that lies in the device's memory; `memory` holds it.
struct List {
  std::shared_ptr<void> memory;
  ListArguments arguments{};
};

std::int64_t chunks_of(std::int64_t count) { return pieces_of(count, ListArguments::kChunk); }

List make_list(core::Device& device, const core::Memory& memory, const std::vector<Member>& members) {
  List list;
  std::vector<ListEntry> entries;
  for (const Member& member : members) {
    ListEntry entry{};
    entry.count = member.in[0].shape.count();
    entry.first_chunk = list.arguments.chunks;
    entry.vectors = 1;
    const auto place = [&](const core::Operand& operand) {
      void* p = memory.at(operand);
      const std::size_t bytes = bytes_of(operand.dtype, ListArguments::kVector);
      if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0) entry.vectors = 0;
      return p;
    };
    for (std::size_t k = 0; k < member.in.size(); ++k) entry.in[k] = place(member.in[k]);
    for (std::size_t k = 0; k < member.out.size(); ++k) entry.out[k] = place(member.out[k]);
    if (member.copy) entry.copy = place(member.copy);
    list.arguments.chunks += chunks_of(entry.count);
    entries.push_back(entry);
  }
  const std::size_t bytes = entries.size() * sizeof(ListEntry);
  list.memory = device.allocate(bytes, core::Space::device);
  device.move(DType::u8, Shape{static_cast<std::int64_t>(bytes)}, {entries.data(), core::Layout(), core::Space::host},
              {list.memory.get(), core::Layout(), core::Space::device});
  list.arguments.tensors = static_cast<const ListEntry*>(list.memory.get());
  list.arguments.tensor_count = static_cast<std::int64_t>(entries.size());
  return list;
}

std::int64_t chunks_of(KernelContext& context, std::size_t first, std::size_t count) {
  std::int64_t chunks = 0;
  for (std::size_t i = first; i < first + count; ++i) chunks += chunks_of(context.in(i).shape.count());
  return chunks;
}

std::shared_ptr<const LoadedKernel> load(KernelContext& context, const KernelText& text) {
  return load_kernel(text, libraries(context).capability);
}

/// The type of the copies that are written: one, as there is in a step.
DType type_of_copies(KernelContext& context, std::size_t parameters) {
  for (std::size_t i = 0; i < parameters; ++i)
    if (const DType copy = context.copy_type(i); copy != DType::undefined) return copy;
  return DType::undefined;
}

/// A round of sums, loaded.
struct Sums {
  std::shared_ptr<const LoadedKernel> gather, join;
};

}  // namespace

Made make_optimizer_step(KernelContext& context) {
  const Node& node = context.node();
  const OptimizerDef& row = *optimizer_of(node);
  const Hyperparameters h(row, node.attributes);
  const StepOperands operands(node);
  const std::size_t n = operands.parameters;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < n; ++i) shapes.push_back(context.in(operands.parameter(i)).shape);
  const SlotPlaces places = slot_places(row, h, shapes);
  if (n == 0) return refuse("no parameters");
  if (context.in(0).dtype != DType::f32 || context.in(1).dtype != DType::i64 || context.in(3).dtype != DType::f32)
    return refuse("a learning rate or a factor that is not f32");

  // Which operands each parameter has; all must be of the first one's types.
  struct Places {
    std::vector<std::size_t> in, out;
  };
  std::vector<Places> members(n);
  UpdateTypes types;
  for (std::size_t i = 0; i < n; ++i) {
    Places& member = members[i];
    member.in = {operands.parameter(i), operands.gradient(i)};
    member.out = {i};
    for (const auto& place : places[i])
      if (place) {
        member.in.push_back(operands.first_slot() + *place);
        member.out.push_back(n + *place);
      }
    UpdateTypes own;
    for (const std::size_t k : member.in) {
      own.in.push_back(context.in(k).dtype);
      if (float_name(own.in.back()).empty() || context.in(k).shape != shapes[i])
        return refuse("parameters, gradients or slots that do not fit");
    }
    for (const std::size_t k : member.out) {
      if (node.outputs[k] == kNoValue) return refuse("a next value that is left out");
      own.out.push_back(context.out(k).dtype);
    }
    if (i == 0) types = own;
    if (own.in != types.in || own.out != types.out) return refuse("parameters of several types");
  }
  types.copy = type_of_copies(context, n);
  const std::optional<UpdateTexts> texts = update_texts(row, h, types);
  if (!texts) return refuse("an update that is more than elementwise operators and sums");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const auto update = load(context, texts->update);
  std::vector<Sums> sums;
  std::size_t partial = 0;
  for (const SumTexts& sum : texts->sums) {
    sums.push_back({load(context, sum.gather), load(context, sum.join)});
    partial = std::max(partial, sum.bytes);
  }

  std::vector<core::Operand> scalars, in(node.inputs.size());
  for (std::size_t i = 0; i < StepOperands::kScalars; ++i) scalars.push_back(context.read(i, core::Layout()));
  std::vector<Member> list(n);
  for (std::size_t i = 0; i < n; ++i)
    for (const std::size_t k : members[i].in)  // all in the order of the parameter
      list[i].in.push_back(in[k] = context.read(k, context.layout(operands.parameter(i))));
  for (std::size_t k = 0; k < node.outputs.size(); ++k) {
    const auto owner = std::ranges::find_if(members, [&](const Places& m) { return std::ranges::count(m.out, k) > 0; });
    list[owner - members.begin()].out.push_back(context.write_over(k, in[operands.replaced(k)]));
  }
  for (std::size_t i = 0; i < n; ++i)
    if (types.copy != DType::undefined && context.copy_type(i) == types.copy)
      list[i].copy = context.write_copy(i, list[i].out[0].layout);
  const std::size_t partial_bytes =
      padded_bytes(static_cast<std::size_t>(chunks_of(context, operands.parameter(0), n)) * partial);
  const core::BufferId scratch = context.scratch(partial_bytes + n * texts->sum_count * sizeof(double));
  return {"generated: optimizer",
          {},
          [=, device = &context.device(),
           stream = libraries(context).stream.get()](const core::Memory& memory) -> core::Run {
            List made = make_list(*device, memory, list);
            ListArguments& a = made.arguments;
            for (std::size_t i = 0; i < scalars.size(); ++i) a.scalars[i] = memory.at(scalars[i]);
            a.partial = memory.at(scratch);
            if (a.partial) a.sums = reinterpret_cast<double*>(static_cast<std::byte*>(a.partial) + partial_bytes);
            return [=] {
              const unsigned blocks = blocks_for(made.arguments.chunks, 1);
              for (const Sums& sum : sums) {
                sum.gather->launch(blocks, kThreads, as_argument(made.arguments), stream);
                sum.join->launch(blocks_for(made.arguments.tensor_count, 1), kThreads, as_argument(made.arguments),
                                 stream);
              }
              update->launch(blocks, kThreads, as_argument(made.arguments), stream);
            };
          }};
}

Made make_global_norm(KernelContext& context) {
  const Node& node = context.node();
  const std::size_t n = node.inputs.size();
  const DType dtype = context.in(0).dtype;
  for (std::size_t i = 0; i < n; ++i)
    if (float_name(dtype).empty() || context.in(i).dtype != dtype) return refuse("gradients of several types");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const std::string start = std::string(kListText) + std::string(kSquaresText) + std::string(kJoinText);
  const auto squares = load_text(context, "squares", "ListArguments", kListArgumentsText,
                                 filled(start + std::string(kSquaresOfChunksText), {{"element", element_name(dtype)}}));
  const auto norm =
      load_text(context, "gradient_norm", "ListArguments", kListArgumentsText, start + std::string(kNormText));
  std::vector<Member> list(n);
  for (std::size_t i = 0; i < n; ++i) list[i].in.push_back(context.read(i));
  std::vector<core::Operand> out;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) out.push_back(context.write(i, core::Layout()));
  constexpr std::size_t kPartial = 16;  // of kSquaresText's Accumulator
  const core::BufferId scratch = context.scratch(static_cast<std::size_t>(chunks_of(context, 0, n)) * kPartial);
  return {"generated: global norm",
          {},
          [=, device = &context.device(),
           stream = libraries(context).stream.get()](const core::Memory& memory) -> core::Run {
            List made = make_list(*device, memory, list);
            made.arguments.partial = memory.at(scratch);
            for (std::size_t i = 0; i < out.size(); ++i) made.arguments.out[i] = memory.at(out[i]);
            return [=] {
              squares->launch(blocks_for(made.arguments.chunks, 1), kThreads, as_argument(made.arguments), stream);
              norm->launch(1, kThreads, as_argument(made.arguments), stream);
            };
          }};
}

Made make_loss_scale_update(KernelContext& context) {
  if (context.in(0).dtype != DType::f32) return refuse("the loss scale is f32");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const ops::LossScaleSettings settings(context.node().attributes);
  const auto number = [](double x) { return float_text(static_cast<float>(x)); };
  const auto kernel = load_text(context, "loss_scale", "ListArguments", kListArgumentsText,
                                filled(kLossScaleText, {{"growth", number(settings.growth_factor)},
                                                        {"backoff", number(settings.backoff_factor)},
                                                        {"interval", std::to_string(settings.growth_interval)},
                                                        {"lowest", number(settings.min)},
                                                        {"highest", number(settings.max)}}));
  const auto launch = [=](const Launch& l) {
    ListArguments a{};
    std::ranges::copy(l.in, a.scalars);
    std::ranges::copy(l.out, a.out);
    kernel->launch(1, 1, as_argument(a), l.stream);
  };
  return on_device(context, {.name = "generated: loss scale", .launch = launch, .overwrites = {0, 1}});
}

}  // namespace halfstep::cudnn
