// What --help prints.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// Has the help of `app`, and of the commands that are added to it from now on, written as a manual: usage, example,
/// flags by what they are about, defaults in words. The example is the command's footer.
void use_manual_help(CLI::App& app);

/// What stands for the option's value in a help or an error: "DIR", "N"; empty for a flag without one.
std::string value_name(const CLI::Option& option);

/// Adds the command `help [COMMAND]`.
void add_help(CLI::App& app);

}  // namespace halfstep::cli
