// Choices among kernels that were measured, kept in a file that processes share.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// By key the name of what was chosen. The file is a JSON object of machines, each an object of names by key. Where it
/// cannot be read, is no such file, or cannot be written, choices hold for this object alone.
class Choices {
 public:
  /// In `file` (none if empty), under `machine`: all that times depend on beside the key, versions of libraries and of
  /// what is measured among it.
  Choices(std::filesystem::path file, std::string machine);

  /// nullptr where nothing was chosen.
  const std::string* find(const std::string& key) const;
  void set(const std::string& key, std::string name);

  /// Writes what was set, one process at a time and the file whole or not at all. What another process has written for
  /// a key since this one read the file stays, and `find` gives it from then on. What could not be written is tried
  /// again the next time. Whether all is in the file.
  bool save();
  /// Why choices hold for this object alone, as a sentence; empty if they are kept.
  const std::string& notice() const { return notice_; }

 private:
  using Names = std::map<std::string, std::string>;  // by key
  std::map<std::string, Names> read() const;         // by machine

  std::filesystem::path file_;
  std::string machine_;
  Names known_, chosen_;       // when the file was read; now
  std::set<std::string> new_;  // keys set since the file was written
  std::string notice_;
};

/// What executors and devices are that choose by measuring.
class KeepsChoices {
 public:
  virtual ~KeepsChoices() = default;
  /// What it has chosen so far; nullptr where fixed rules choose.
  virtual Choices* choices() = 0;
};

}  // namespace core
}  // namespace halfstep
