// The output of --help.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// Formats the help of `app`, and of commands added to it later, like a manual: usage, example, flags grouped by topic,
/// defaults in words. The example is the command's footer.
void use_manual_help(CLI::App& app);

/// The placeholder of the option's value in help and errors: "DIR", "N"; empty for a flag without a value.
std::string value_name(const CLI::Option& option);

/// Adds the command `help [COMMAND]`.
void add_help(CLI::App& app);

}  // namespace halfstep::cli
