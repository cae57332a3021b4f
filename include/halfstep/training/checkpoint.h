// Checkpoints: all that is needed to continue a training run bit for bit, in one safetensors file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

/// Where a run stands, apart from its tensors; StepResult tells what a step is.
struct TrainingState {
  std::int64_t step = 0;      ///< steps done
  std::int64_t epoch = 0;     ///< epochs finished
  std::int64_t position = 0;  ///< rows consumed of the running epoch
  bool epoch_ends = false;    ///< the last epoch's validation, and what follows it, is still to come
  std::string optimizer;      ///< its name
  /// Hash of the source model's structure: operators, names, shapes.
  std::string model_fingerprint;
  /// Options of the run, see settings.h. The counters of shuffling and random draws follow from the seed among them,
  /// step, epoch and position.
  std::map<std::string, std::string> settings;

  bool operator==(const TrainingState&) const = default;
};

struct Checkpoint {
  /// Parameters, optimizer moments, running statistics, loss scale and its counter, by StoredState::key.
  std::map<std::string, Tensor> tensors;
  TrainingState state;
  /// What callbacks keep (see KeptState), and the trainer's own sums over the running epoch, by their names.
  std::map<std::string, NamedTensors> kept = {};
};

/// A state of a training step, as its program's StateStore and as a checkpoint calls it.
struct StoredState {
  std::string name, key;
  StateRole role;
};
/// Keys are names, but for the loss scale: it is `kLossScaleState` unless another state is called so.
std::vector<StoredState> stored_states(const Graph& step);

inline constexpr const char* kCheckpointFile = "checkpoint.safetensors";
inline constexpr const char* kPreviousCheckpointFile = "checkpoint.prev.safetensors";

/// Creates `directory` where it is missing and makes sure that checkpoints of about `expected_bytes` can be written
/// there: that there is room for the newest, the one before it, and one being written. To be called before training
/// starts. Throws Error(input) or Error(failure) as `check_writable` does.
void prepare_checkpoint_directory(const std::filesystem::path& directory, std::uint64_t expected_bytes = 0);

/// Writes `directory`/checkpoint.safetensors atomically and keeps the one before it as checkpoint.prev.safetensors. The
/// state goes into the header's metadata as JSON, beside a CRC-32 over state and tensors. Throws Error(failure) when
/// the disk refuses; what was there before is then still there.
void save_checkpoint(const std::filesystem::path& directory, const Checkpoint& checkpoint);
/// The same of tensors that are read when they are written, each twice.
void save_checkpoint(const std::filesystem::path& directory, LazyTensors tensors, const TrainingState& state,
                     const std::map<std::string, NamedTensors>& kept = {});

struct LoadedCheckpoint {
  Checkpoint checkpoint;
  std::filesystem::path file;
  std::string notice;  ///< for the user: why the newest file was passed over; empty when it was not
};

/// Reads the newest checkpoint of a directory that is whole. Throws Error(input) when there is none: no file at all, or
/// only truncated and damaged ones.
LoadedCheckpoint load_checkpoint(const std::filesystem::path& directory);

/// What a run that wants to resume has itself.
struct ResumeTarget {
  std::string model_fingerprint;
  std::string optimizer;
  std::map<std::string, Tensor> tensors;        ///< names, element types and shapes count; values do not
  std::map<std::string, StateRole> roles;       ///< of the same names
  std::int64_t rows = 0;                        ///< of the data: an epoch has no more
  std::map<std::string, std::string> settings;  ///< as TrainingState has them
};

/// What resuming does otherwise than going on, for the user, a line each: settings that differ, and tensors stored in a
/// half type, as halfstep once kept the state of models whose weights are halves, which become f32.
///
/// Throws Error(input) when the checkpoint is of another model (naming tensors that are missing, left over, or of
/// another type or shape) or of another optimizer, when its state does not fit these settings, and when no run can have
/// left it: tensors that are not finite, counters that are negative or beyond their end.
std::vector<std::string> check_resumable(const Checkpoint& checkpoint, const ResumeTarget& target);

}  // namespace halfstep
