// Flags of a command from a TOML file, and in one.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// Adds a command that takes flags from a file: --config FILE.toml, each flag a key without its dashes, the model
/// `model`. Flags come after it.
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description);

/// Has --config of each command read its file while `arguments` are parsed: to be called when all flags are there. What
/// the arguments give wins over the file, and the file over the environment. Throws Error(input) with the file's name
/// and line for what is no TOML, an unknown key, and a value of another type or range than the flag's.
void read_configs(CLI::App& app, const std::vector<std::string>& arguments);

/// The flags that a call of the command was given, as a file for --config; the defaults of the others as comments.
/// Throws Error(input) where a flag's text is no UTF-8.
std::string config_text(const CLI::App& command);

/// What the first line of such a file starts with.
inline constexpr const char* kConfigMark = "# Flags of halfstep ";

}  // namespace halfstep::cli
