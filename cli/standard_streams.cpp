#include "cli/standard_streams.h"

#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <unistd.h>

#include "base/print.h"
#include <halfstep/base/error.h>

namespace halfstep::cli {

void keep_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // open() returns the lowest free number, which is the missing one. Read-only where the program writes.
    if (open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

void check_output_written() {
  if (!all_written(stdout))
    throw_failure("a writable standard output", why_unwritten(),
                  "free some space, or do not close it; the printed output is incomplete");
}

}  // namespace halfstep::cli
