// Completion of command lines in a shell.
#pragma once

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// Adds the command `completion SHELL`, which prints a script that completes the commands of `app`, their flags, and
/// values: those that `suggested` or `one_of` tell (validators.h), and names of files.
void add_completion(CLI::App& app);

}  // namespace halfstep::cli
