// The subcommands of halfstep. Each file defines one: its flags, and a callback that runs it.
#pragma once

#include <CLI/CLI.hpp>

namespace halfstep::cli {

// Each function adds a subcommand to `app`. The work is done by its callback, which throws Error if it fails, and may
// set `exit_code` to 1 if it completes with a negative result.
void add_train(CLI::App& app, int& exit_code);
void add_evaluate(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_convert(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_profile(CLI::App& app, int& exit_code);
void add_devices(CLI::App& app, int& exit_code);
void add_bench_communication(CLI::App& app, int& exit_code);
void add_check(CLI::App& app, int& exit_code);

}  // namespace halfstep::cli
