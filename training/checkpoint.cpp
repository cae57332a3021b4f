#include "training/checkpoint.h"

#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "graph/atomic_file.h"
#include "graph/error.h"
#include "training/safetensors.h"

namespace halfstep {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainingState, step, epoch, position, seed, optimizer, hyperparameters, schedule,
                                   model_fingerprint, precision, executor, batch_size, extra)

namespace {

namespace fs = std::filesystem;

constexpr const char* kVersion = "1";
constexpr const char* kVersionKey = "halfstep.checkpoint";
constexpr const char* kStateKey = "halfstep.state";
constexpr const char* kChecksumKey = "halfstep.crc32";
constexpr std::size_t kListed = 6;  // names in an error before "and N more"

std::string describe(const Tensor& tensor) {
  return fmt::format("{}{}", name_of(tensor.dtype()), tensor.shape().to_string());
}

/// CRC-32 over the state's text and every tensor's name, type, shape and bytes, in the order of names.
std::string checksum(const std::string& state, const std::map<std::string, Tensor>& tensors) {
  uLong crc = crc32_z(0, nullptr, 0);
  const auto add = [&](const void* data, std::size_t bytes) {
    if (bytes > 0) crc = crc32_z(crc, static_cast<const Bytef*>(data), bytes);
  };
  add(state.data(), state.size());
  for (const auto& [name, tensor] : tensors) {
    const std::string header = fmt::format("\n{} {}\n", name, describe(tensor));
    add(header.data(), header.size());
    add(tensor.raw(), tensor.bytes());
  }
  return fmt::format("{:08x}", crc);
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
  const std::string actual = checksum(state, file.tensors);
  if (actual != metadata(kChecksumKey))
    refuse(fmt::format("content of checksum {}", metadata(kChecksumKey)), actual,
           "the file is damaged: use another checkpoint");
  Checkpoint checkpoint;
  try {
    checkpoint.state = nlohmann::json::parse(state).get<TrainingState>();
  } catch (const nlohmann::json::exception& e) {
    refuse("a readable training state", e.what(), "use another checkpoint");
  }
  checkpoint.tensors = std::move(file.tensors);
  return checkpoint;
}

std::string list(const std::vector<std::string>& names) {
  if (names.size() <= kListed) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{}, and {} more", fmt::join(names.begin(), names.begin() + kListed, ", "),
                     names.size() - kListed);
}

/// "missing tensors: …; left-over tensors: …; other type or shape: …", or empty when all fit.
std::string tensor_differences(const Checkpoint& checkpoint, const ResumeTarget& target) {
  std::vector<std::string> missing, extra, different, parts;
  for (const auto& [name, tensor] : target.tensors) {
    const auto it = checkpoint.tensors.find(name);
    if (it == checkpoint.tensors.end())
      missing.push_back(name);
    else if (it->second.dtype() != tensor.dtype() || it->second.shape() != tensor.shape())
      different.push_back(fmt::format("{} is {} and should be {}", name, describe(it->second), describe(tensor)));
  }
  for (const auto& [name, tensor] : checkpoint.tensors)
    if (!target.tensors.contains(name)) extra.push_back(name);
  if (!missing.empty()) parts.push_back("missing tensors: " + list(missing));
  if (!extra.empty()) parts.push_back("left-over tensors: " + list(extra));
  if (!different.empty()) parts.push_back("of another type or shape: " + list(different));
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace

void prepare_checkpoint_directory(const fs::path& directory, std::uint64_t expected_bytes) {
  std::error_code code;
  fs::create_directories(directory, code);
  if (std::error_code ignored; !fs::is_directory(directory, ignored)) {
    const std::string required = "a directory for checkpoints: " + directory.string();
    if (code == std::errc::not_a_directory || code == std::errc::file_exists || !code)
      throw_input_error(required, "a file in its place", "name another directory");
    throw_failure(required, code.message(), "check the path and its permissions");
  }
  check_writable(directory / kCheckpointFile, expected_bytes);
}

void save_checkpoint(const fs::path& directory, const Checkpoint& checkpoint) {
  std::string state;
  try {
    state = nlohmann::json(checkpoint.state).dump();
  } catch (const nlohmann::json::exception& e) {
    throw_input_error("a training state in UTF-8", e.what(), "rename what is not");
  }
  const std::string crc = checksum(state, checkpoint.tensors);
  const Safetensors content{checkpoint.tensors, {{kVersionKey, kVersion}, {kStateKey, state}, {kChecksumKey, crc}}};
  write_atomically(
      directory / kCheckpointFile, [&](FileWriter& file) { write_safetensors(file, content); },
      directory / kPreviousCheckpointFile);
}

LoadedCheckpoint load_checkpoint(const fs::path& directory) {
  const fs::path newest = directory / kCheckpointFile, previous = directory / kPreviousCheckpointFile;
  std::error_code code;
  if (!fs::exists(newest, code) && !fs::exists(previous, code))
    throw_input_error("a directory with " + std::string(kCheckpointFile), directory.string() + " has none",
                      "give the directory that --checkpoint wrote, or start without --resume");
  std::string damage;
  try {
    return {read_checkpoint(newest), newest, ""};
  } catch (const Error& e) {
    // A failure to read says nothing about the file: an older state must not slip in.
    if (e.kind() != Error::Kind::input) throw;
    damage = e.what();
  }
  if (!fs::exists(previous, code))
    throw_input_error("an undamaged checkpoint in " + directory.string(), damage, "start without --resume");
  try {
    LoadedCheckpoint loaded{read_checkpoint(previous), previous, ""};
    loaded.notice = fmt::format("{} cannot be used ({}); going on from the one before it, of step {}", kCheckpointFile,
                                damage, loaded.checkpoint.state.step);
    return loaded;
  } catch (const Error& e) {
    if (e.kind() != Error::Kind::input) throw;
    throw_input_error("an undamaged checkpoint in " + directory.string(), damage + "; and " + e.what(),
                      "start without --resume");
  }
}

void check_resumable(const Checkpoint& checkpoint, const ResumeTarget& target) {
  const TrainingState& state = checkpoint.state;
  if (state.model_fingerprint != target.model_fingerprint) {
    const std::string differences = tensor_differences(checkpoint, target);
    throw_input_error(
        "a checkpoint of this model",
        "one of another model: " +
            (differences.empty() ? "the tensors are the same, the operators between them are not" : differences),
        "resume with the model that the checkpoint was made from");
  }
  if (state.optimizer != target.optimizer)
    throw_input_error(fmt::format("a checkpoint of optimizer '{}'", target.optimizer),
                      fmt::format("'{}'", state.optimizer),
                      fmt::format("resume with --optimizer {}, or start without --resume", state.optimizer));
  if (const std::string differences = tensor_differences(checkpoint, target); !differences.empty())
    throw_input_error("a checkpoint with the state of this run", differences,
                      "resume with the options that the checkpoint was made with");
}

}  // namespace halfstep
