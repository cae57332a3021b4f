#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "base/atomic_file.h"
#include "base/new_folder.h"
#include "base/parse_number.h"
#include "base/path_state.h"
#include "formats/safetensors.h"
#include "graph/crc.h"
#include "training/settings.h"
#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>
#include <halfstep/passes/passes.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/options.h>

namespace halfstep {

namespace {

using Json = nlohmann::json;

Json to_json(const TrainingState& state) {
  return {{"step", state.step},           {"epoch", state.epoch},
          {"position", state.position},   {"epoch_ends", state.epoch_ends},
          {"optimizer", state.optimizer}, {"model_fingerprint", state.model_fingerprint},
          {"settings", state.settings}};
}

/// The settings of a checkpoint that has a member for each of the few it knows.
std::map<std::string, std::string> former_settings(const Json& json) {
  const auto precision = dtype_from_name(json.at("precision").get<std::string>());
  return {{"--seed", fmt::format("{}", json.at("seed").get<std::uint64_t>())},
          {"--lr-schedule", json.at("schedule").get<std::string>()},
          {kPrecisionSetting, std::string(precision_name(precision))},
          {"--executor", json.at("executor").get<std::string>()},
          {"--batch", fmt::format("{}", json.at("batch_size").get<std::int64_t>())}};
}

TrainingState state_from(const Json& json) {
  TrainingState state{.step = json.at("step"),
                      .epoch = json.at("epoch"),
                      .position = json.at("position"),
                      .epoch_ends = json.value("epoch_ends", false),
                      .optimizer = json.at("optimizer"),
                      .model_fingerprint = json.at("model_fingerprint"),
                      .settings = {}};
  state.settings =
      json.contains("settings") ? json.at("settings").get<std::map<std::string, std::string>>() : former_settings(json);
  return state;
}

namespace fs = std::filesystem;

constexpr const char* kVersion = "1";
constexpr const char* kVersionKey = "halfstep.checkpoint";
constexpr const char* kStateKey = "halfstep.state";
constexpr const char* kChecksumKey = "halfstep.crc32";
constexpr std::size_t kListed = 6;  // names in an error before "and N more"

std::string describe(DType dtype, const Shape& shape) { return fmt::format("{}{}", name_of(dtype), shape.to_string()); }
std::string describe(const Tensor& tensor) { return describe(tensor.dtype(), tensor.shape()); }

constexpr std::string_view kNoChecksum = "00000000";  // as long as one

/// CRC-32 over the state's text and every tensor's name, type, shape and bytes, in the order of names. `crc_of_bytes`
/// gives that of the bytes alone, by name.
template <class CrcOf>
std::string checksum(const std::string& state, const std::vector<TensorInfo>& types, const CrcOf& crc_of_bytes) {
  std::uint32_t crc = crc_of(state);
  for (const TensorInfo& type : types) {
    const std::string header = fmt::format("\n{} {}\n", type.name, describe(type.dtype, type.shape));
    crc = crc_of(header, crc);
    const std::size_t bytes = bytes_of(type.dtype, static_cast<std::size_t>(type.shape.count()));
    crc = static_cast<std::uint32_t>(crc32_combine(crc, crc_of_bytes(type.name), static_cast<z_off_t>(bytes)));
  }
  return fmt::format("{:08x}", crc);
}

/// Writes the file. A tensor is read once, as it may be a device's or another rank's: its part of the checksum is taken
/// as it is written, and the checksum put into the header afterwards.
void write_checkpoint(FileWriter& file, const LazyTensors& tensors, const std::string& state) {
  std::map<std::string, std::uint32_t> crcs;
  const LazyTensors read{tensors.types, [&](const std::string& name) {
                           Tensor tensor = tensors.read(name);
                           crcs[name] = crc_of(tensor);
                           return tensor;
                         }};
  const std::string header = write_safetensors(
      file, read, {{kVersionKey, kVersion}, {kStateKey, state}, {kChecksumKey, std::string(kNoChecksum)}});
  // In a text of JSON no other place has these quotes.
  const std::string key = fmt::format("\"{}\":\"", kChecksumKey);
  file.replace(kSafetensorsPrefix + header.find(key) + key.size(),
               checksum(state, tensors.types, [&](const std::string& name) { return crcs.at(name); }));
}

/// For each that keeps something the keys of its tensors, by what it calls them.
using KeptKeys = std::map<std::string, std::map<std::string, std::string>>;
constexpr const char* kKeptKey = "kept";

/// Adds what callbacks keep to `tensors`, under keys that no state has.
KeptKeys add_kept(const std::map<std::string, NamedTensors>& kept, LazyTensors& tensors) {
  KeptKeys keys;
  std::map<std::string, Tensor> added;
  const auto is_taken = [&](const std::string& key) {
    return added.contains(key) || std::ranges::find(tensors.types, key, &TensorInfo::name) != tensors.types.end();
  };
  for (const auto& [owner, theirs] : kept) {
    keys[owner];
    for (const auto& [name, tensor] : theirs) {
      std::string key = fmt::format("{}: {}", owner, name);
      while (is_taken(key)) key.insert(0, 1, '_');
      added[key] = tensor;
      keys[owner][name] = key;
    }
  }
  for (const auto& [key, tensor] : added) tensors.types.push_back({key, tensor.dtype(), tensor.shape()});
  std::ranges::sort(tensors.types, {}, &TensorInfo::name);
  tensors.read = [added = std::move(added), others = std::move(tensors.read)](const std::string& name) {
    const auto at = added.find(name);
    return at != added.end() ? at->second : others(name);
  };
  return keys;
}

/// Takes them out again. Throws std::out_of_range where one is missing.
std::map<std::string, NamedTensors> take_kept(const KeptKeys& keys, std::map<std::string, Tensor>& tensors) {
  std::map<std::string, NamedTensors> kept;
  for (const auto& [owner, theirs] : keys) {
    kept[owner];
    for (const auto& [name, key] : theirs) {
      kept[owner][name] = tensors.at(key);
      tensors.erase(key);
    }
  }
  return kept;
}

Checkpoint read_checkpoint(const fs::path& path) {
  Safetensors file = read_safetensors(path);
  const auto refuse = [&](const std::string& required, const std::string& found, const std::string& remedy) {
    throw_input_error(fmt::format("{}: {}", path.string(), required), found, remedy);
  };
  const auto metadata = [&](const char* key) -> const std::string& {
    const auto it = file.metadata.find(key);
    if (it == file.metadata.end())
      refuse(fmt::format("a halfstep checkpoint, with '{}' in its metadata", key), "none",
             "give the directory that --checkpoint wrote");
    return it->second;
  };
  if (metadata(kVersionKey) != kVersion)
    refuse(fmt::format("a checkpoint of version {}", kVersion), "version " + metadata(kVersionKey),
           "use the halfstep that wrote it");
  const std::string& state = metadata(kStateKey);
  const std::string actual = checksum(state, LazyTensors::of(file.tensors).types,
                                      [&](const std::string& name) { return crc_of(file.tensors.at(name)); });
  if (actual != metadata(kChecksumKey))
    refuse(fmt::format("content of checksum {}", metadata(kChecksumKey)), actual,
           "the file is damaged: use another checkpoint");
  Checkpoint checkpoint;
  try {
    const Json json = Json::parse(state);
    checkpoint.state = state_from(json);
    checkpoint.kept = take_kept(json.value(kKeptKey, KeptKeys()), file.tensors);
  } catch (const Json::exception& e) {
    refuse("a readable training state", e.what(), "use another checkpoint");
  } catch (const std::out_of_range& e) {
    refuse("the tensors listed in the state", e.what(), "use another checkpoint");
  }
  checkpoint.tensors = std::move(file.tensors);
  return checkpoint;
}

std::string list(const std::vector<std::string>& names) {
  if (names.size() <= kListed) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{}, and {} more", fmt::join(names.begin(), names.begin() + kListed, ", "),
                     names.size() - kListed);
}

// A half that a run of now keeps in f32.
bool widens(const Tensor& stored, const Tensor& wanted) {
  return is_half(stored.dtype()) && wanted.dtype() == DType::f32 && stored.shape() == wanted.shape();
}

/// "missing tensors: …; left-over tensors: …; other type or shape: …", or empty when all fit.
std::string tensor_differences(const Checkpoint& checkpoint, const ResumeTarget& target) {
  std::vector<std::string> missing, extra, different, parts;
  for (const auto& [name, tensor] : target.tensors) {
    const auto it = checkpoint.tensors.find(name);
    if (it == checkpoint.tensors.end())
      missing.push_back(name);
    else if ((it->second.dtype() != tensor.dtype() || it->second.shape() != tensor.shape()) &&
             !widens(it->second, tensor))
      different.push_back(fmt::format("{} is {} and should be {}", name, describe(it->second), describe(tensor)));
  }
  for (const auto& [name, tensor] : checkpoint.tensors)
    if (!target.tensors.contains(name)) extra.push_back(name);
  if (!missing.empty()) parts.push_back("missing tensors: " + list(missing));
  if (!extra.empty()) parts.push_back("unexpected tensors: " + list(extra));
  if (!different.empty()) parts.push_back("of another type or shape: " + list(different));
  return fmt::format("{}", fmt::join(parts, "; "));
}

struct Bounds {
  std::string_view what;
  std::int64_t value, lowest, highest;
};

[[noreturn]] void throw_impossible(const std::string& required, const std::string& found) {
  throw_input_error(required, found,
                    fmt::format("resume from another checkpoint ({} is the one before), or start without --resume",
                                kPreviousCheckpointFile));
}

void check_counters(const Checkpoint& checkpoint, const ResumeTarget& target) {
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max() / 2;  // they are counted on
  const TrainingState& state = checkpoint.state;
  for (const Bounds& b : {Bounds{"step", state.step, 0, kMost}, Bounds{"epoch", state.epoch, 0, kMost},
                          Bounds{"position in the epoch", state.position, 0, target.rows - 1}})
    if (b.value < b.lowest || b.value > b.highest)
      throw_impossible(b.highest == kMost ? fmt::format("a checkpoint whose {} is a count", b.what)
                                          : fmt::format("a checkpoint whose {} is a row of the data, {} to {}", b.what,
                                                        b.lowest, b.highest),
                       fmt::format("{}", b.value));
  for (const auto& [key, role] : target.roles) {
    using enum StateRole;
    const Tensor& tensor = checkpoint.tensors.at(key);
    if ((role != optimizer && role != loss_scale && role != random) || tensor.count() != 1) continue;
    const double value = to_doubles(tensor)[0];
    if (tensor.dtype() == DType::i64 && !(value >= 0 && value <= static_cast<double>(state.step)))
      throw_impossible(fmt::format("a checkpoint whose {} is from 0 to its {} steps", key, state.step),
                       fmt::format("{}", value));
    if (tensor.dtype() == DType::f32 && role == loss_scale && !(value > 0 && std::isfinite(value)))
      throw_impossible("a checkpoint whose loss scale is finite and above 0", fmt::format("{}", value));
  }
}

template <class T>
bool is_finite(const Tensor& tensor) {
  using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
  return std::all_of(tensor.data<T>(), tensor.data<T>() + tensor.count(),
                     [](T element) { return std::isfinite(static_cast<Wide>(element)); });
}

void check_finite(const Checkpoint& checkpoint, const ResumeTarget& target) {
  // Gradients that are being accumulated may have overflowed: their update will be skipped.
  const auto may_overflow = [&](const std::string& key) {
    const auto role = target.roles.find(key);
    return role != target.roles.end() && role->second == StateRole::accumulator;
  };
  std::vector<std::string> wrong;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (!is_float(tensor.dtype()) || may_overflow(name)) continue;
    if (!visit_dtype(tensor.dtype(), [&]<class T>() { return is_finite<T>(tensor); })) wrong.push_back(name);
  }
  if (!wrong.empty()) throw_impossible("a checkpoint of finite numbers", "infinities or NaN in " + list(wrong));
}

// A loss scale is state: f16 has one unless it is turned off, the others if it is asked for.
void check_loss_scale(const TrainingState& state, const ResumeTarget& target) {
  const auto setting = [](const auto& settings, const char* name) -> std::string {
    const auto at = settings.find(name);
    return at == settings.end() ? "" : at->second;
  };
  const std::string before = setting(state.settings, kLossScaleSetting),
                    now = setting(target.settings, kLossScaleSetting),
                    precision_before = setting(state.settings, kPrecisionSetting),
                    precision_now = setting(target.settings, kPrecisionSetting);
  if (before.empty() || now.empty() || (before == kNoLossScale) == (now == kNoLossScale)) return;
  const auto described = [](const std::string& precision, const std::string& scale) {
    return fmt::format("--precision {} {} a loss scale", precision, scale == kNoLossScale ? "without" : "with");
  };
  const bool differs = precision_before != precision_now;
  throw_input_error(described(precision_before, before) + ", as the checkpoint was made", described(precision_now, now),
                    fmt::format("resume with {}, or --loss-scale {}, which keeps to the checkpoint's state",
                                differs ? "--precision " + precision_before : "the same flags",
                                before == kNoLossScale ? "0" : before));
}

// Sums of gradients are weighted by how many there are to be.
void check_accumulation(const TrainingState& state, const ResumeTarget& target) {
  const auto before = state.settings.find(kAccumulateSetting), now = target.settings.find(kAccumulateSetting);
  if (before == state.settings.end() || now == target.settings.end() || before->second == now->second) return;
  const auto count = [](const std::string& text) { return parse_number<std::int64_t>(text).value_or(0); };
  const std::int64_t batches = count(before->second), batches_now = count(now->second);
  const std::string found = fmt::format("--accumulate {}", now->second);
  if (batches <= 0 || state.step % batches != 0)
    throw_input_error(fmt::format("--accumulate {}, as the checkpoint has accumulated gradients of {} batches",
                                  before->second, batches > 0 ? state.step % batches : 0),
                      found, "resume from a checkpoint between two updates to change it");
  // Updates come at the steps that are multiples of it.
  if (batches_now > 0 && state.step % batches_now != 0)
    throw_input_error(fmt::format("--accumulate {}, or another divisor of the {} steps that the checkpoint has",
                                  before->second, state.step),
                      found, "resume from a checkpoint after another number of steps to change it");
}

}  // namespace

std::vector<StoredState> stored_states(const Graph& step) {
  std::vector<StoredState> stored;
  const ValueId namesake = step.find(kLossScaleState), scale = step.find(StepRole::loss_scale);
  for (const State& state : step.states) {
    if (state.role == StateRole::copy) continue;
    const std::string& name = step[state.value].name;
    const bool may_take_it = state.value == scale && step.state_of(namesake) < 0;
    stored.push_back({name, may_take_it ? std::string(kLossScaleState) : name, state.role});
  }
  return stored;
}

void prepare_checkpoint_directory(const fs::path& directory, std::uint64_t expected_bytes) {
  make_folder(directory, "a folder for checkpoints");
  // Those that are there are going to be replaced.
  constexpr std::uint64_t kFiles = 3;
  std::uint64_t needed = kFiles * expected_bytes;
  for (const char* name : {kCheckpointFile, kPreviousCheckpointFile}) {
    std::error_code code;
    const std::uintmax_t bytes = fs::file_size(directory / name, code);
    if (!code) needed -= std::min<std::uint64_t>(needed, bytes);
  }
  check_writable(directory / kCheckpointFile, needed);
}

void save_checkpoint(const fs::path& directory, const Checkpoint& checkpoint) {
  save_checkpoint(directory, LazyTensors::of(checkpoint.tensors), checkpoint.state, checkpoint.kept);
}

void save_checkpoint(const fs::path& directory, LazyTensors tensors, const TrainingState& training_state,
                     const std::map<std::string, NamedTensors>& kept) {
  Json json = to_json(training_state);
  if (!kept.empty()) json[kKeptKey] = add_kept(kept, tensors);
  // A setting may be a name that is no UTF-8.
  const std::string state = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  write_atomically(
      directory / kCheckpointFile, [&](FileWriter& file) { write_checkpoint(file, tensors, state); },
      directory / kPreviousCheckpointFile);
}

LoadedCheckpoint load_checkpoint(const fs::path& directory) {
  const fs::path newest = directory / kCheckpointFile, previous = directory / kPreviousCheckpointFile;
  if (!is_there(newest) && !is_there(previous))
    throw_input_error("a directory with " + std::string(kCheckpointFile), why_not_there(newest),
                      "give the directory that --checkpoint wrote, or start without --resume");
  std::string damage;
  try {
    return {read_checkpoint(newest), newest, ""};
  } catch (const Error& e) {
    // A failure to read says nothing about the file: an older state must not slip in.
    if (e.kind() != Error::Kind::input) throw;
    damage = e.without_hint();
  }
  if (!is_there(previous))
    throw_input_error("an undamaged checkpoint in " + directory.string(), damage, "start without --resume");
  try {
    LoadedCheckpoint loaded{read_checkpoint(previous), previous, ""};
    loaded.notice = fmt::format("{} cannot be used ({}); continuing from the previous one, of step {}", kCheckpointFile,
                                damage, loaded.checkpoint.state.step);
    return loaded;
  } catch (const Error& e) {
    if (e.kind() != Error::Kind::input) throw;
    throw_input_error("an undamaged checkpoint in " + directory.string(), damage + "; and " + e.without_hint(),
                      "start without --resume");
  }
}

std::optional<Precision> precision_of_checkpoint(const fs::path& directory) {
  for (const char* name : {kCheckpointFile, kPreviousCheckpointFile}) try {
      const auto metadata = read_safetensors_metadata(directory / name);
      return parse_precision(state_from(Json::parse(metadata.at(kStateKey))).settings.at(kPrecisionSetting));
    } catch (const std::exception&) {  // no file, a damaged one, or another's
    }
  return std::nullopt;
}

std::vector<std::string> check_resumable(const Checkpoint& checkpoint, const ResumeTarget& target) {
  const TrainingState& state = checkpoint.state;
  if (state.model_fingerprint != target.model_fingerprint) {
    const std::string differences = tensor_differences(checkpoint, target);
    throw_input_error("a checkpoint of this model",
                      "one of another model: " +
                          (differences.empty() ? "the tensors are the same, but the operators differ" : differences),
                      "resume with the model that the checkpoint was made from");
  }
  if (state.optimizer != target.optimizer)
    throw_input_error(fmt::format("a checkpoint of optimizer '{}'", target.optimizer),
                      fmt::format("'{}'", state.optimizer),
                      fmt::format("resume with --optimizer {}, or start without --resume", state.optimizer));
  check_loss_scale(state, target);
  std::vector<std::string> notices = setting_differences(target.settings, state.settings);
  if (const std::string differences = tensor_differences(checkpoint, target); !differences.empty())
    throw_input_error("a checkpoint with the state of this run",
                      fmt::format("{}{}{}", differences, notices.empty() ? "" : "; ", fmt::join(notices, "; ")),
                      "resume with the options that the checkpoint was made with");
  check_accumulation(state, target);
  check_counters(checkpoint, target);
  check_finite(checkpoint, target);
  const auto widened = std::count_if(target.tensors.begin(), target.tensors.end(), [&](const auto& entry) {
    return widens(checkpoint.tensors.at(entry.first), entry.second);
  });
  if (widened > 0)
    notices.push_back(fmt::format(
        "{} tensors of the checkpoint are stored in a half type; they continue as fp32 master weights", widened));
  return notices;
}

}  // namespace halfstep
