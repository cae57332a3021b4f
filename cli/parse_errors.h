// What is wrong with a call, told as every error of halfstep is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <halfstep/base/error.h>

namespace halfstep::cli {

/// To be called when all flags of all commands are there: no flag takes another for its value.
void check_values(CLI::App& app);

/// Throws Error(input) for -output where --output is meant, which would be read as -o utput.
void check_dashes(const CLI::App& app, const std::vector<std::string>& arguments);

/// The flag of the command, without dashes, that was probably meant by `name`; its model is one too.
std::optional<std::string> meant_flag(const CLI::App& command, const std::string& name);

/// What is wrong with the value of a flag that `error` is about.
Error explain_value(const CLI::App& command, const CLI::ParseError& error);

/// What is wrong with the call after a parse of `arguments` that threw `error`, and what was probably meant: a mistyped
/// flag is told before the one that is missing for it.
Error explain(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& arguments);

}  // namespace halfstep::cli
