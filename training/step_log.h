// The log of a training run: one JSON object a line, a line for each step, and one at the end of each epoch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file_lock.h"
#include "training/appended_file.h"
#include "training/named_value.h"
#include <halfstep/base/api.h>
#include <halfstep/training/trainer.h>

namespace HALFSTEP_API halfstep {

struct GradNorm {
  std::string_view parameter;  ///< its name in the source model
  float norm = 0;
};

/// The counts are those of StepResult.
struct StepRecord {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  std::int64_t update = 0;
  float loss = 0;
  float lr = 0;
  float loss_scale = 1;
  bool grads_finite = true;                   ///< false: the step was skipped
  float grad_norm = 0;                        ///< global L2 norm, unscaled
  std::span<const GradNorm> grad_norms = {};  ///< written as the object "grad_norms" unless empty
  double ms = 0;
};

/// After the last step of an epoch, or of the run. Only these have the member "train": step records have "loss"
/// instead.
struct EpochRecord {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  bool partial = false;                         ///< a run ended within the epoch; written as "partial":true if so
  std::span<const NamedValue> train = {};       ///< means over the epoch's steps: "loss" and metrics
  std::span<const NamedValue> validation = {};  ///< the same over validation data; written unless empty
  std::span<const RankTimes> ranks = {};        ///< written as "ranks":{"ms":[...],"waited_ms":[...]} unless empty
};

/// One record as JSON without the line's end. Numbers are the shortest that read back as the same float. JSON has no
/// infinities: they and NaN are the strings "Infinity", "-Infinity" and "NaN", which Python's float() and JavaScript's
/// Number() take. Names are in ASCII, as `json_text` has them.
void append_json(std::string& out, const StepRecord& record);
void append_json(std::string& out, const EpochRecord& record);

/// To be called before training: throws Error unless a log can be written to `path`, which may be a pipe or device too.
void check_log_path(const std::filesystem::path& path);

/// Writes records to a file, as `AppendedFile` does.
class StepLog {
 public:
  /// For a run that has done `steps` steps. At 0 the file starts anew. Otherwise it is continued: the lines of later
  /// steps, which the run repeats, those of a part of an epoch, which the run completes, and an incomplete last line
  /// are removed first, atomically. An epoch's record precedes the checkpoint of its last step. Throws Error(failure)
  /// when the file cannot be read or written, or another run writes it.
  explicit StepLog(const std::filesystem::path& path, std::int64_t steps = 0);
  ~StepLog();
  /// Throws Error(failure) when the buffer went out and could not be written.
  void write(const StepRecord& record);
  void write_epoch(const EpochRecord& record);
  void flush();
  /// Throws Error(failure) when records are lost.
  void close();

 private:
  template <class Record>
  void append(const Record& record);

  FileLock lock_;
  std::optional<AppendedFile> file_;  // closed before others may have the lock
  std::string line_;
};

}  // namespace halfstep
