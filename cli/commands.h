// The subcommands of halfstep. Each file defines one: its flags, and a callback that does the work.
#pragma once

#include <CLI/CLI.hpp>

namespace halfstep::cli {

// Each adds a subcommand to `app`. Nothing is done before its callback runs, which throws Error when it fails and may
// set `exit_code` to 1 when the work was done and its result is a failure.
void add_train(CLI::App& app, int& exit_code);
void add_evaluate(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_convert(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_profile(CLI::App& app, int& exit_code);
void add_devices(CLI::App& app, int& exit_code);
void add_check(CLI::App& app, int& exit_code);

}  // namespace halfstep::cli
