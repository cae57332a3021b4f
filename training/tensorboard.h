// Event files, which TensorBoard shows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "training/named_value.h"
#include <halfstep/base/api.h>
#include <halfstep/graph/tensor.h>

namespace HALFSTEP_API halfstep {

/// To be called before training: makes the folder where there is none, and throws Error unless files can be written
/// there.
void prepare_event_folder(const std::filesystem::path& folder);

/// Writes one event file, by a buffer as `AppendedFile` has it, so that what a killed run leaves can be read. Several
/// runs may write to one folder: each has a file of its own.
class EventWriter {
 public:
  /// For a run that has done `steps` steps. Starts a new file, events.out.tfevents.TIME.HOST.PID.NUMBER; where `steps`
  /// is not 0 it has TensorBoard forget what files before it tell of later steps, which this run repeats. Throws
  /// Error(failure) when it cannot be written.
  explicit EventWriter(const std::filesystem::path& folder, std::int64_t steps = 0);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  const std::filesystem::path& path() const;
  // All of these throw Error(failure) when the buffer went out and could not be written.

  /// Tags are PREFIX/NAME.
  void scalars(std::int64_t step, std::string_view prefix, std::span<const NamedValue> values);
  /// How often the tensor's elements lie in each of 64 buckets of the same width. Those that are not finite are left
  /// out; nothing is written where none is left, and for elements that are no floats.
  void histogram(std::int64_t step, const std::string& tag, const Tensor& values);
  void flush();
  /// Throws Error(failure) when events are lost.
  void close();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halfstep
