// Programs that are to take no more than so much of a device's memory, or less than they could.
#pragma once

#include <cstddef>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/executors/unread_inputs.h>

namespace HALFSTEP_API halfstep {

/// While one lives, compiling in this thread a program that would take more of a device's own memory throws
/// BeyondLimit, before any is kept for what is not a state or a constant. Kernels are timed within the limit.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::size_t bytes);
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

  /// Nothing where there is none.
  static std::optional<std::size_t> of_thread();

 private:
  std::optional<std::size_t> before_;
};

/// While one lives, compiling in this thread takes, if `is_wanted`, kernels that take less memory where there are such,
/// though others may be faster.
class LeastMemory {
 public:
  explicit LeastMemory(bool is_wanted);
  ~LeastMemory();
  LeastMemory(const LeastMemory&) = delete;
  LeastMemory& operator=(const LeastMemory&) = delete;

  /// For a maker, where that decides.
  static bool decide();
  /// Whether a maker has asked.
  bool decides() const { return decides_; }

 private:
  bool is_wanted_, decides_ = false;
  LeastMemory* before_;
};

/// What is known of the program.
class BeyondLimit final : public std::exception {
 public:
  BeyondLimit(MemoryUse use, std::vector<PlanEntry> entries, UnreadInputs unread)
      : use_(std::move(use)), entries_(std::move(entries)), unread_(std::move(unread)) {}

  const char* what() const noexcept override { return "a program that takes more memory than it is to"; }
  const MemoryUse& use() const { return use_; }
  const std::vector<PlanEntry>& entries() const { return entries_; }
  const UnreadInputs& unread() const { return unread_; }

 private:
  MemoryUse use_;
  std::vector<PlanEntry> entries_;
  UnreadInputs unread_;
};

}  // namespace halfstep
