// Checkpoints: everything needed to continue a training run bit for bit, in one safetensors file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/precision.h>

namespace HALFSTEP_API halfstep {

/// The progress of a run, apart from its tensors; StepResult defines what a step is.
struct TrainingState {
  std::int64_t step = 0;      ///< steps done
  std::int64_t epoch = 0;     ///< epochs finished
  std::int64_t position = 0;  ///< rows consumed of the running epoch
  bool epoch_ends = false;    ///< the last epoch's validation, and the callbacks after it, are still pending
  std::string optimizer;      ///< its name
  /// Hash of the source model's structure: operators, names, shapes.
  std::string model_fingerprint;
  /// Options of the run, see settings.h. The counters of shuffling and random numbers follow from the seed in them,
  /// step, epoch and position.
  std::map<std::string, std::string> settings;

  bool operator==(const TrainingState&) const = default;
};

struct Checkpoint {
  /// Parameters, optimizer moments, running statistics, loss scale and its counter, by StoredState::key.
  std::map<std::string, Tensor> tensors;
  TrainingState state;
  /// The state of callbacks (see KeptState), and the trainer's own sums over the running epoch, by name.
  std::map<std::string, NamedTensors> kept = {};
};

/// A state of a training step: its name in the program's StateStore and its key in a checkpoint.
struct StoredState {
  std::string name, key;
  StateRole role;
};
/// All but copies. Keys are names, except that the loss scale's key is `kLossScaleState` unless another state has that
/// name.
std::vector<StoredState> stored_states(const Graph& step);

inline constexpr const char* kCheckpointFile = "checkpoint.safetensors";
inline constexpr const char* kPreviousCheckpointFile = "checkpoint.prev.safetensors";

/// Creates `directory` if it is missing and checks that checkpoints of about `expected_bytes` can be written there,
/// with space for the newest, the previous one, and one being written. To be called before training starts. Throws
/// Error(input) or Error(failure) as `check_writable` does.
void prepare_checkpoint_directory(const std::filesystem::path& directory, std::uint64_t expected_bytes = 0);

/// Writes `directory`/checkpoint.safetensors atomically and keeps the previous one as checkpoint.prev.safetensors. The
/// state is stored in the header's metadata as JSON, with a CRC-32 over state and tensors. Throws Error(failure) if the
/// file cannot be written; existing checkpoints are then unchanged.
void save_checkpoint(const std::filesystem::path& directory, const Checkpoint& checkpoint);
/// The same with tensors that are read while they are written, each twice.
void save_checkpoint(const std::filesystem::path& directory, LazyTensors tensors, const TrainingState& state,
                     const std::map<std::string, NamedTensors>& kept = {});

struct LoadedCheckpoint {
  Checkpoint checkpoint;
  std::filesystem::path file;
  std::string notice;  ///< for the user: why the newest file was skipped; empty if it was not
};

/// Reads the newest intact checkpoint of a directory. Throws Error(input) if there is none: no file at all, or only
/// truncated and damaged ones.
LoadedCheckpoint load_checkpoint(const std::filesystem::path& directory);

/// The precision of the run that wrote the newest checkpoint of a directory; none where no file tells. Reads the header
/// alone: whether the checkpoint is intact shows when it is loaded.
std::optional<Precision> precision_of_checkpoint(const std::filesystem::path& directory);

/// The configuration of a run that is about to resume.
struct ResumeTarget {
  std::string model_fingerprint;
  std::string optimizer;
  std::map<std::string, Tensor> tensors;        ///< names, element types and shapes are compared; values are not
  std::map<std::string, StateRole> roles;       ///< of the same names
  std::int64_t rows = 0;                        ///< of the data: the maximum of an epoch
  std::map<std::string, std::string> settings;  ///< as in TrainingState
};

/// Messages for the user about differences from an uninterrupted run, a line each: settings that differ, and tensors
/// stored in a half type, as in checkpoints of older versions for models with half weights, which become f32.
///
/// Throws Error(input) if the checkpoint belongs to another model (naming tensors that are missing, unexpected, or of
/// another type or shape) or another optimizer, if its state does not fit these settings, and if its contents are
/// invalid: tensors that are not finite, counters that are negative or out of range.
std::vector<std::string> check_resumable(const Checkpoint& checkpoint, const ResumeTarget& target);

}  // namespace halfstep
