// For code that may crash, hang or exhaust memory: reports the current operation when the process dies.
#pragma once

#include <cstddef>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// During its lifetime, a signal that ends the process (a crash, an abort, an alarm) or a call of exit first writes
/// the current text to standard error. Only one may exist at a time.
class CrashNote {
 public:
  CrashNote();
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;

  /// Sets the current operation; the text is truncated to 4096 bytes. After more than `seconds` the process ends by
  /// SIGALRM.
  void begin(std::string_view text, unsigned seconds);
  /// The operation is complete.
  void end();
};

/// Limits the further growth of the address space to `bytes`: larger allocations fail immediately.
void limit_growth(std::size_t bytes);

}  // namespace halfstep
