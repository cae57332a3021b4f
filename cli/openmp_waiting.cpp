#include "cli/openmp_waiting.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <unistd.h>

namespace halfstep::cli {
namespace {

// Iterations of a waiting loop, a few microseconds: longer than the gaps between the parallel regions of a step, and
// much shorter than a scheduler's time slice.
constexpr const char* kSpins = "1000";

}  // namespace

void choose_openmp_waiting(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  if (setenv("GOMP_SPINCOUNT", kSpins, 1) != 0) return;
  // By its path rather than /proc/self/exe, which would become the name shown by `ps` and `top`.
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) execv(program.c_str(), argv);
}

}  // namespace halfstep::cli
