// Code that may crash, hang or ask for all memory: what was being done when the program died.
#pragma once

#include <cstddef>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// While it lives, a signal that ends the process (a crash, an abort, an alarm) or a call of exit writes the present
/// text to standard error first. One at a time.
class CrashNote {
 public:
  CrashNote();
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;

  /// What is done from here on; what does not fit 4096 bytes is cut off. When it takes more than `seconds`, the process
  /// ends by SIGALRM.
  void begin(std::string_view text, unsigned seconds);
  /// It is done.
  void end();
};

/// Lets the program's address space grow by so much from here on: what asks for more fails at once.
void limit_growth(std::size_t bytes);

}  // namespace halfstep
