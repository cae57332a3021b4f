// What is wrong with a call, told as every error of halfstep is.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <halfstep/base/error.h>

namespace halfstep::cli {

/// To be called when all flags of all commands are there: no flag takes another for its value.
void check_values(CLI::App& app);

/// Throws Error(input) for -output where --output is meant, which would be read as -o utput.
void check_dashes(const CLI::App& app, const std::vector<std::string>& arguments);

/// What is wrong with the call after a parse of `arguments` that threw `error`, and what was probably meant: a mistyped
/// flag is told before the one that is missing for it.
Error explain(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& arguments);

}  // namespace halfstep::cli
