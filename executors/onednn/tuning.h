// Kernels chosen by measuring them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "executors/core/choices.h"
#include <halfstep/executors/core/kernel.h>
#include <halfstep/executors/tuning.h>

namespace halfstep::onednn {

/// One of several kernels that compute the same.
struct Candidate {
  std::string name;                         ///< no other of them has it
  std::function<core::Run()> prepare = {};  ///< gives what runs it, on memory that it keeps; may throw where it cannot
};

/// Remembers what measuring told, within the process and in a file: see core::Choices.
class Tuner {
 public:
  /// `machine`: all that times depend on beside the kernel.
  Tuner(Tuning tuning, std::string machine, std::filesystem::path file);

  Tuning tuning() const { return tuning_; }
  /// The index of a candidate: the one that was chosen for this key before, or else the fastest. The first is what
  /// fixed rules choose, and is taken unless another is clearly faster. Each key is measured once. At any time two
  /// candidates are prepared at most.
  std::size_t choose(const std::string& key, const std::vector<Candidate>& candidates);
  /// Whether the second of two is chosen; `by_rules` says whether fixed rules choose it.
  bool takes_second(const std::string& key, Candidate first, Candidate second, bool by_rules);
  /// Writes what is new.
  void save() { choices_.save(); }
  /// Why choices hold for this process alone, as a sentence; empty if they are kept.
  const std::string& notice() const { return choices_.notice(); }
  core::Choices& choices() { return choices_; }

 private:
  Tuning tuning_;
  core::Choices choices_;
};

/// The tuner of the innermost scope of the calling thread; nullptr where fixed rules choose.
Tuner* tuner();

class TunerScope {
 public:
  explicit TunerScope(Tuner* tuner);
  ~TunerScope();
  TunerScope(const TunerScope&) = delete;
  TunerScope& operator=(const TunerScope&) = delete;

 private:
  Tuner* before_;
};

}  // namespace halfstep::onednn
