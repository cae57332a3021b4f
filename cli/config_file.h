// Configuration files: flags of a command in TOML.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace halfstep::cli {

/// Adds a command that reads flags from a file: --config FILE.toml, with each flag as a key without its dashes, and the
/// model as `model`. Add flags to it afterwards.
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description);

/// Makes --config of each command read its file while `arguments` are parsed; call it after all flags are added. The
/// arguments take precedence over the file, and the file over the environment. Throws Error(input) with the file's name
/// and line for invalid TOML, an unknown key, and a value of another type or range than the flag's.
void read_configs(CLI::App& app, const std::vector<std::string>& arguments);

/// The flags given in a call of the command, as a file for --config; the defaults of the others as comments. Throws
/// Error(input) if a flag's text is not valid UTF-8.
std::string config_text(const CLI::App& command);

/// The file that --config names; empty if it is not given.
std::string config_file_of(const CLI::App& command);

/// The start of the first line of such a file.
inline constexpr const char* kConfigMark = "# Flags of halfstep ";

}  // namespace halfstep::cli
