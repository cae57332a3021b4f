// Shell completion of command lines.
#pragma once

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// Adds the command `completion SHELL`, which prints a script that completes the commands of `app`, their flags, and
/// values: those of `suggested` or `one_of` (validators.h), and file names.
void add_completion(CLI::App& app);

}  // namespace halfstep::cli
