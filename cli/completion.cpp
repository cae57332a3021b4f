#include "cli/completion.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/enum_names.h"
#include "cli/common.h"
#include "cli/help.h"

namespace halfstep::cli {
namespace {

// The completion of a flag's value.
enum class Values { none, words, files, folders };

Values values_of(const CLI::Option& option) {
  if (!choices_of(option).empty()) return Values::words;
  const std::string name = value_name(option);
  if (name == "DIR" || name == "FOLDER") return Values::folders;
  for (const std::string_view part : {"FILE", "DATA", ".onnx", ".npz", ".so"})
    if (name.find(part) != std::string::npos) return Values::files;
  return Values::none;
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

/// "--output", "-o".
std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  return names;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands_of(app)) names.push_back(command->get_name());
  return names;
}

const CLI::Option* positional_of(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options())
    if (option->get_positional()) return option;
  return nullptr;
}

// The shell splits words at '=' too: --flag=VALUE becomes three of them.
constexpr std::string_view kBashHead = R"(# Completion of halfstep in bash, as 'halfstep completion bash' prints it.

_halfstep_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$word"); }
_halfstep_files() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word"); }
_halfstep_folders() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word"); }

_halfstep() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= i
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} != -* ]]; then
      command=${COMP_WORDS[i]}
      break
    fi
  done
  COMPREPLY=()
  case $command in
)";

std::string bash_values(Values values, const std::string& words) {
  constexpr std::string_view kCommands[] = {":", "_halfstep_words", "_halfstep_files", "_halfstep_folders"};
  const std::string command(name_in(kCommands, values));
  return values == Values::words ? fmt::format("{} \"{}\"", command, words) : command;
}

std::string bash_command(const CLI::App& command, const std::string& positional) {
  std::vector<std::string> flags;
  std::string values;
  for (const CLI::Option* option : command.get_options()) {
    const std::vector<std::string> names = names_of(*option);
    flags.insert(flags.end(), names.begin(), names.end());
    if (!names.empty() && takes_value(*option))
      values += fmt::format("        {}) {}; return ;;\n", fmt::join(names, " | "),
                            bash_values(values_of(*option), fmt::format("{}", fmt::join(choices_of(*option), " "))));
  }
  return fmt::format("    {})\n{}      if [[ $word == -* ]]; then _halfstep_words \"{}\"; else {}; fi ;;\n",
                     command.get_name(), values.empty() ? "" : "      case $before in\n" + values + "      esac\n",
                     fmt::join(flags, " "), positional);
}

/// The completion of the command's argument: the model, or a word.
std::string bash_positional(const CLI::App& app, const CLI::App& command) {
  const CLI::Option* option = positional_of(command);
  if (!option) return ":";
  const bool is_command = value_name(*option) == "COMMAND";
  return bash_values(is_command ? Values::words : values_of(*option),
                     fmt::format("{}", fmt::join(is_command ? command_names(app) : choices_of(*option), " ")));
}

std::string bash_script(const CLI::App& app) {
  std::vector<std::string> first = command_names(app);
  for (const CLI::Option* option : app.get_options())
    for (std::string& name : names_of(*option)) first.push_back(std::move(name));
  std::string text(kBashHead);
  text += fmt::format("    '') _halfstep_words \"{}\" ;;\n", fmt::join(first, " "));
  for (const CLI::App* command : commands_of(app)) text += bash_command(*command, bash_positional(app, *command));
  return text + "  esac\n}\n\ncomplete -F _halfstep halfstep\n";
}

/// Text for use in single quotes in a zsh specification.
std::string zsh_text(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') {
      result += ' ';
    } else if (c == '\'') {
      result += "'\\''";
    } else {
      if (c == '[' || c == ']' || c == ':' || c == '\\') result += '\\';
      result += c;
    }
  }
  return result;
}

/// ":MODEL.onnx:_files"
std::string zsh_values(const CLI::Option& option, const std::vector<std::string>& words, Values values) {
  static constexpr std::string_view kActions[] = {" ", "", "_files", "_files -/"};
  return fmt::format(":{}:{}", zsh_text(value_name(option)),
                     values == Values::words ? fmt::format("({})", fmt::join(words, " "))
                                             : std::string(kActions[static_cast<std::size_t>(values)]));
}

std::string zsh_command(const CLI::App& app, const CLI::App& command) {
  std::string text = fmt::format("    {})\n      _arguments -S", command.get_name());
  for (const CLI::Option* option : command.get_options()) {
    const bool value = takes_value(*option);
    const std::string values = value ? zsh_values(*option, choices_of(*option), values_of(*option)) : "";
    for (const std::string& name : names_of(*option))
      text += fmt::format(" \\\n        '*{}{}[{}]{}'", name,
                          !value                   ? ""
                          : name.starts_with("--") ? "="
                                                   : "+",
                          zsh_text(option->get_description()), values);
  }
  if (const CLI::Option* option = positional_of(command)) {
    const bool is_command = value_name(*option) == "COMMAND";
    text +=
        fmt::format(" \\\n        '1{}'", is_command ? zsh_values(*option, command_names(app), Values::words)
                                                     : zsh_values(*option, choices_of(*option), values_of(*option)));
  }
  return text + " ;;\n";
}

std::string zsh_script(const CLI::App& app) {
  std::string text =
      "#compdef halfstep\n# Completion of halfstep in zsh, as 'halfstep completion zsh' prints it.\n\n_halfstep() {\n"
      "  local -a commands=(\n";
  for (const CLI::App* command : commands_of(app))
    text += fmt::format("    '{}:{}'\n", command->get_name(), zsh_text(command->get_description()));
  text +=
      "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
      "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n";
  for (const CLI::App* command : commands_of(app)) text += zsh_command(app, *command);
  return text +
         "  esac\n}\n\nif [[ $funcstack[1] == _halfstep ]]; then _halfstep \"$@\"; else compdef _halfstep halfstep; "
         "fi\n";
}

}  // namespace

void add_completion(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("completion", "Prints a script that completes halfstep's commands in a shell.");
  command->footer("Example:\n  halfstep completion bash >~/.local/share/bash-completion/completions/halfstep");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash or zsh")->required()->type_name("SHELL")->check(one_of({"bash", "zsh"}));
  command->callback([&app, shell] { print_out("{}", Raw{*shell == "bash" ? bash_script(app) : zsh_script(app)}); });
}

}  // namespace halfstep::cli
