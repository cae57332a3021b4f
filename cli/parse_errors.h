// Errors of the command line, in the form of all halfstep errors.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <halfstep/base/error.h>

namespace halfstep::cli {

/// Call it after all flags of all commands are added: then no flag is taken as the value of another.
void check_values(CLI::App& app);

/// Throws Error(input) for -output instead of --output, which would be parsed as -o utput.
void check_dashes(const CLI::App& app, const std::vector<std::string>& arguments);

/// The flag of the command, without dashes, that was probably meant by `name`; its model is included.
std::optional<std::string> meant_flag(const CLI::App& command, const std::string& name);

/// The error in the value of the flag that `error` is about.
Error explain_value(const CLI::App& command, const CLI::ParseError& error);

/// The error in the call after a parse of `arguments` that threw `error`, with a suggestion: a mistyped flag is
/// reported before a required one that is missing because of it.
Error explain(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& arguments);

}  // namespace halfstep::cli
