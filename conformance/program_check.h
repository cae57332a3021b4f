// What executors/executor.h promises of programs and stores, held against small graphs whose results are known.
#pragma once

#include <span>
#include <string_view>

#include <halfstep/conformance/report.h>
#include <halfstep/executors/executor.h>

namespace halfstep {

class ProgramScene;

/// One promise: a scene that throws when the executor does not keep it.
struct ProgramCase {
  std::string_view name;
  void (*play)(ProgramScene& scene);
};
std::span<const ProgramCase> program_cases();

/// Plays one of them in f32. Never throws: an exception on the way is a failed check.
CheckReport check_program(const ProgramCase& promise, Executor& executor);

}  // namespace halfstep
