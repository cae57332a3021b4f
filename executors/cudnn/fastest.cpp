#include "executors/cudnn/fastest.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executors/core/choices.h"
#include "executors/core/choices_file.h"
#include "executors/cudnn/entry_cache.h"
#include "executors/memory_limit.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

/// Those of a file, which a process reads once.
struct Known {
  Known(const std::filesystem::path& file, const std::string& machine)
      : refusal(core::refusal_to_keep(file)), remark(core::remark_on_choices(file, machine)), choices(file, machine) {}

  std::string refusal, remark;  // see choices_file.h
  core::Choices choices;
  std::map<std::string, std::string> untimed = {};  // why, by key; all of its nodes take the first
};
std::mutex known_mutex;
std::map<std::pair<std::filesystem::path, std::string>, Known>& all_known() {
  static std::map<std::pair<std::filesystem::path, std::string>, Known> all;
  return all;
}

std::filesystem::path choices_file() {
  const std::filesystem::path folder = kernel_cache_folder();
  return folder.empty() ? folder : folder / "choices.json";
}

/// What times depend on beside the node; the last number changes with how they are taken, and with own kernels. While
/// `known_mutex` is held.
const std::string& machine_of(const Libraries& libraries) {
  static std::map<std::pair<int, int>, std::string> all;  // properties take a while to ask for
  std::string& text = all[{libraries.device, libraries.capability}];
  if (!text.empty()) return text;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, libraries.device), "cudaGetDeviceProperties");
  return text = fmt::format("{}, {}.{}, {} multiprocessors; cuDNN {}, cuBLASLt {}, choices 7", properties.name,
                            properties.major, properties.minor, properties.multiProcessorCount, cudnnGetVersion(),
                            cublasLtGetVersion());
}

const std::string& known_as(const Candidate& candidate) {
  return candidate.name.empty() ? candidate.kernel.name : candidate.name;
}

/// An attribute's text. What elements and bodies hold is left out: at worst nodes that differ in these share a choice.
struct AttributeText {
  std::string operator()(const Tensor& tensor) const { return tensor.shape().to_string(); }
  std::string operator()(const std::shared_ptr<const Graph>&) const { return "body"; }
  template <class T>
  std::string operator()(const T& value) const {
    return fmt::format("{}", value);
  }
};

/// All that decides about which candidates there are and what they take.
std::string key_of(const KernelContext& context, const std::vector<Candidate>& candidates) {
  const Node& node = context.node();
  std::string key = node.op;
  for (const auto& [name, value] : node.attributes)
    key += fmt::format(" {}={}", name, std::visit(AttributeText(), value));
  const auto add = [&](const std::vector<ValueId>& values, const std::vector<core::Layout>& layouts) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] == kNoValue) {
        key += " -";
        continue;
      }
      const Value& value = context.graph()[values[i]];
      key += fmt::format(" {}{}", name_of(value.dtype), value.shape.to_string());
      if (i < layouts.size() && !layouts[i].is_row_major())
        key += fmt::format("({})", fmt::join(layouts[i].order().strides, ","));
    }
  };
  const DeviceKernel& first = candidates.front().kernel;
  add(node.inputs, first.in_layouts);
  key += " ->";
  add(node.outputs, first.out_layouts);
  for (const std::size_t bytes : candidates.front().kept_bytes) key += fmt::format(" keeps {}", bytes);
  if (libraries(context).arithmetic.tf32) key += " tf32";
  for (const Candidate& candidate : candidates) key += fmt::format(" | {}", known_as(candidate));
  return key;
}

/// Where operands and results lie while candidates are timed, and behind them what each candidate has of its own.
class Places {
 public:
  Places(const KernelContext& context, const std::vector<Candidate>& candidates) {
    const Graph& graph = context.graph();
    const auto place = [&](const std::vector<ValueId>& values, std::vector<std::optional<std::size_t>>& offsets) {
      for (const ValueId id : values)
        offsets.push_back(id == kNoValue ? std::nullopt
                                         : std::optional(take(bytes_of(graph[id].dtype, graph[id].shape))));
    };
    place(context.node().inputs, in_);
    place(context.node().outputs, out_);
    shared_ = bytes_;
    for (const Candidate& candidate : candidates) bytes_ = std::max(bytes_, shared_ + own_bytes(candidate));
  }

  std::size_t bytes() const { return bytes_; }
  /// `memory` has so many bytes.
  Launch launch(const Candidate& candidate, std::byte* memory, cudaStream_t stream) const {
    Launch l;
    l.stream = stream;
    for (const auto& offset : in_) l.in.push_back(offset ? memory + *offset : nullptr);
    for (const auto& offset : out_) l.out.push_back(offset ? memory + *offset : nullptr);
    std::byte* own = memory + shared_;
    l.scratch = std::exchange(own, own + padded_bytes(candidate.kernel.scratch_bytes));
    for (const std::size_t bytes : candidate.kept_bytes)
      l.kept.push_back(std::exchange(own, own + padded_bytes(bytes)));
    return l;
  }

 private:
  std::size_t take(std::size_t bytes) { return std::exchange(bytes_, bytes_ + padded_bytes(bytes)); }
  static std::size_t own_bytes(const Candidate& candidate) {
    std::size_t bytes = padded_bytes(candidate.kernel.scratch_bytes);
    for (const std::size_t kept : candidate.kept_bytes) bytes += padded_bytes(kept);
    return bytes;
  }

  std::vector<std::optional<std::size_t>> in_, out_;
  std::size_t shared_ = 0, bytes_ = 0;
};

/// What timing may take: states and constants are on the device by then, and the values of the step are not.
std::size_t room_for_timing(KernelContext& context) {
  constexpr std::size_t kMost = std::size_t{1} << 30;
  const std::optional<std::size_t> limit = MemoryLimit::of_thread();
  if (!limit) return kMost;
  std::size_t held = 0;
  for (const core::Assembly::Buffer& buffer : context.assembly().buffers())
    if (buffer.space == core::Space::device)
      held += buffer.state ? buffer.state->bytes() : buffer.fixed ? buffer.bytes : 0;
  return std::min(kMost, *limit - std::min(*limit, held));
}

Attempt attempt_of(const Candidate& candidate, const Launch& l) try {
  const DeviceKernel& kernel = candidate.kernel;
  Attempt once;
  if (candidate.attempt)
    once = candidate.attempt(l);
  else if (kernel.bind)
    once = [run = kernel.bind(l)] { return run(), true; };
  else
    once = [launch = kernel.launch, l] { return launch(l), true; };
  return [once] {
    try {
      return once();
    } catch (const Error&) {
      return false;
    }
  };
} catch (const Error&) {
  return {};
}

/// Why the candidate cannot be taken; empty when it can.
std::string complete(Candidate& candidate) try {
  std::string reason = candidate.complete ? candidate.complete(candidate.kernel) : "";
  if (reason.empty()) candidate.complete = nullptr;
  return reason;
} catch (const Error& e) {
  return e.without_hint();
}

using Times = std::vector<std::optional<double>>;

/// Nothing where there is too little memory for it.
std::optional<Times> times_of(KernelContext& context, std::vector<Candidate>& candidates) {
  const std::size_t room = room_for_timing(context);
  if (Places(context, candidates).bytes() > room) return std::nullopt;  // before anything is compiled
  std::vector<bool> are_ready;
  for (Candidate& candidate : candidates) are_ready.push_back(candidate.is_timed && complete(candidate).empty());
  const Places places(context, candidates);
  if (places.bytes() > room) return std::nullopt;
  const cudaStream_t stream = libraries(context).stream.get();
  try {
    const DeviceBuffer memory(places.bytes(), stream);
    std::vector<Attempt> attempts;
    for (std::size_t i = 0; i < candidates.size(); ++i)
      attempts.push_back(are_ready[i] ? attempt_of(candidates[i], places.launch(candidates[i], memory.get(), stream))
                                      : Attempt());
    return seconds_of(attempts, stream);
  } catch (const Error&) {  // of memory
    return std::nullopt;
  }
}

/// The first that is as fast as any, but for chance. Nothing where none works.
std::optional<std::size_t> fastest_of(const Times& times) {
  constexpr double kChance = 1.02;
  std::optional<double> least;
  for (const std::optional<double>& seconds : times)
    if (seconds && (!least || *seconds < *least)) least = seconds;
  for (std::size_t i = 0; i < times.size(); ++i)
    if (times[i] && *times[i] <= kChance * *least) return i;
  return std::nullopt;
}

/// What a file keeps: the name of a candidate, and a remark for the plan.
constexpr std::string_view kBehindName = "; ";
std::string entry_of(const Candidate& candidate, double seconds, std::ptrdiff_t count) {
  return fmt::format("{}{}measured {:.1f} us, of {}", known_as(candidate), kBehindName, seconds * 1e6, count);
}

struct Choice {
  std::size_t number = 0;
  std::string remark = {};
};

/// Nothing where the entry is none of these candidates'.
std::optional<Choice> choice_of(const std::string& entry, const std::vector<Candidate>& candidates) {
  const std::size_t end = entry.find(kBehindName);
  const auto found = std::ranges::find(candidates, entry.substr(0, end), known_as);
  if (end == std::string::npos || found == candidates.end()) return std::nullopt;
  std::string remark = entry.substr(end + kBehindName.size());
  if (!found->name.empty()) remark += ": " + found->name;
  return Choice{static_cast<std::size_t>(found - candidates.begin()), std::move(remark)};
}

Choice choose(KernelContext& context, std::vector<Candidate>& candidates) {
  const Libraries& own = libraries(context);
  const auto count = std::ranges::count(candidates, true, &Candidate::is_timed);
  if (count < 2 || own.properties) return {};
  const std::filesystem::path file = choices_file();
  const std::string key = key_of(context, candidates);
  const std::lock_guard lock(known_mutex);
  const std::string& machine = machine_of(own);
  Known& known = all_known().try_emplace({file, machine}, file, machine).first->second;
  const auto first = [&](const std::string& why) {
    return Choice{0, fmt::format("the first of {}, as {}", count, known.untimed.emplace(key, why).first->second)};
  };
  if (known.untimed.contains(key)) return first({});
  if (const std::string* entry = known.choices.find(key))
    if (auto choice = choice_of(*entry, candidates)) return *choice;
  if (!known.refusal.empty()) return {};
  const std::optional<Times> times = times_of(context, candidates);
  if (!times) return first("there was no memory to time them");
  const std::optional<std::size_t> best = fastest_of(*times);
  if (!best) return first("all failed when they were timed");
  known.choices.set(key, entry_of(candidates[*best], *(*times)[*best], count));
  // What another process has written meanwhile is what later ones take.
  if (known.choices.save()) return choice_of(*known.choices.find(key), candidates).value_or(Choice());
  known.refusal = known.choices.notice();
  return first("the choice could not be kept");
}

}  // namespace

Made fastest(KernelContext& context, std::vector<Candidate> candidates) {
  const Choice choice = choose(context, candidates);
  std::string refusal;
  // The first in place of one that cannot be completed any more.
  std::rotate(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(choice.number),
              candidates.begin() + static_cast<std::ptrdiff_t>(choice.number) + 1);
  for (Candidate& candidate : candidates) {
    std::string reason = complete(candidate);
    if (!reason.empty()) {
      if (refusal.empty()) refusal = std::move(reason);
      continue;
    }
    DeviceKernel& kernel = candidate.kernel;
    if (candidate.keep) kernel.kept = candidate.keep();
    if (&candidate == &candidates.front() && !choice.remark.empty())
      kernel.remark += fmt::format("{}{}", kernel.remark.empty() ? "" : ", ", choice.remark);
    return on_device(context, std::move(kernel));
  }
  return refuse(refusal);
}

std::string note_on_choices(const Libraries& libraries) {
  const std::lock_guard lock(known_mutex);
  const auto found = all_known().find({choices_file(), machine_of(libraries)});
  if (found == all_known().end()) return {};
  const Known& known = found->second;
  return known.refusal.empty() ? known.remark : "no kernels are timed, as choices cannot be kept: " + known.refusal;
}

}  // namespace halfstep::cudnn
