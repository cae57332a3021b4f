// Memory of a step, as a prediction of the peak resident set of the process.
#pragma once

#include <cstddef>
#include <functional>

#include <nlohmann/json.hpp>

#include <halfstep/executors/memory_use.h>

namespace halfstep::cli {

/// What a run needs beside its program, in bytes.
struct BesideProgram {
  std::size_t saving = 0;      ///< see bytes_to_save
  std::size_t read_ahead = 0;  ///< batches that wait for their step
  std::size_t process = 0;     ///< libraries, graphs, the source's message, generated code
  std::size_t start = 0;       ///< the peak before the first step: loading and compiling
};

/// Of this process, which has compiled the program and has run nothing. `moments_written`: bytes of moments that have
/// their memory already. `run` runs the program once: where it takes little memory, what the process takes then is
/// measured, too; else, or where it throws, that is added which the first run usually takes.
BesideProgram measured_beside(const MemoryUse& use, std::size_t moments_written, std::size_t saving,
                              std::size_t read_ahead, const std::function<void()>& run);

/// {"peak_bytes", "start_bytes", "categories": [{category, bytes}], "arena": {bytes, live_bytes, node}}.
nlohmann::ordered_json memory_report(const MemoryUse& use, const BesideProgram& beside);

/// The report, with "of", "batch" and "precision" of the program in front, and of training "budget_bytes".
void print_memory(const nlohmann::ordered_json& report);

}  // namespace halfstep::cli
