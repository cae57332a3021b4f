#include "cli/parse_errors.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/help.h"
#include "cli/nearest.h"

namespace halfstep::cli {
namespace {

// Names of flags in other programs.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kOtherWords{{
    {"learning-rate", "lr"},
    {"gpu", "device"},
    {"dtype", "precision"},
    {"workers", "threads"},
    {"iterations", "steps"},
}};

bool is_flag(std::string_view argument) {
  return argument.size() > 1 && argument[0] == '-' && argument[1] != '.' &&
         !std::isdigit(static_cast<unsigned char>(argument[1]));
}

/// The name of "--lr=3" and "-lr" is lr.
std::string bare(std::string_view flag) {
  flag = flag.substr(0, flag.find('='));
  flag.remove_prefix(std::min(flag.find_first_not_of('-'), flag.size()));
  return std::string(flag);
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

/// Whether it has several values, separated by commas.
bool takes_list(const CLI::Option& option) { return option.get_delimiter() != 0 || option.check_name("--data"); }

const CLI::App* chosen(const CLI::App& app) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  return commands.empty() ? nullptr : commands.front();
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

std::vector<std::string> flag_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back(name);
  return names;
}

std::string see_help(const CLI::App& command) {
  return fmt::format("'halfstep {} --help' lists the flags", command.get_name());
}

Error input_error(std::string expected, std::string got, std::string hint) {
  return Error(Error::Kind::input, std::move(expected), std::move(got), std::move(hint));
}

std::optional<std::string> meant_flag_of(const std::vector<std::string>& known, const std::string& name) {
  const auto* word =
      std::find_if(kOtherWords.begin(), kOtherWords.end(), [&](const auto& w) { return w.first == name; });
  if (word != kOtherWords.end() && std::find(known.begin(), known.end(), word->second) != known.end())
    return std::string(word->second);
  return nearest(name, known);
}

std::string flag_hint(const CLI::App& app, const CLI::App& command, const std::string& name) {
  if (const auto meant = meant_flag_of(flag_names(command), name)) return fmt::format("did you mean '--{}'?", *meant);
  std::vector<std::string> others;
  for (const CLI::App* other : app.get_subcommands([](const CLI::App*) { return true; }))
    if (other->get_option_no_throw("--" + name)) others.push_back(other->get_name());
  if (!others.empty()) return fmt::format("--{} is a flag of {}", name, fmt::join(others, ", "));
  return see_help(command);
}

/// "--output h.onnx" for a file without a flag: the first common flag of the command that is not given.
std::string flag_for(const CLI::App& command, const std::string& file) {
  const bool model = file.ends_with(".onnx");
  for (const char* name : {"--input", "--data", "--output"}) {
    const CLI::Option* option = command.get_option_no_throw(name);
    if (option && option->count() == 0 && model == (std::string_view(name) == "--output"))
      return fmt::format("{} {}", name, file);
  }
  return {};
}

/// For "--data x.npy y.npy", "--json yes" and "convert m.onnx h.onnx".
std::string extra_hint(const CLI::App& command, const std::vector<std::string>& arguments, const std::string& extra) {
  const auto at = std::find(arguments.begin(), arguments.end(), extra);
  const auto option = [&](std::ptrdiff_t back) -> const CLI::Option* {
    if (at == arguments.end() || at - arguments.begin() < back || !is_flag(*(at - back))) return nullptr;
    return command.get_option_no_throw(*(at - back));
  };
  if (const CLI::Option* flag = option(1); flag && !takes_value(*flag)) return flag->get_name() + " takes no value";
  if (const CLI::Option* flag = option(2); flag && takes_list(*flag))
    return fmt::format("{} takes one value: if this belongs to it, write {},{} without a space, or quote it",
                       flag->get_name(), *(at - 1), extra);
  if (const std::string meant = flag_for(command, extra); !meant.empty())
    return fmt::format("did you mean '{}'?", meant);
  return fmt::format("'halfstep {} --help' gives an example", command.get_name());
}

/// The text before and after `between`.
std::pair<std::string, std::string> parts(const std::string& text, std::string_view between) {
  const std::size_t at = text.find(between);
  if (at == std::string::npos) return {text, ""};
  return {text.substr(0, at), text.substr(at + between.size())};
}

Error missing(const CLI::App& command, const std::string& name) {
  const CLI::Option* option = command.get_option_no_throw(name);
  const std::string hint = fmt::format("'halfstep {} --help' gives an example", command.get_name());
  if (!option) return input_error(name, "none", hint);
  if (const CLI::Option* resume = command.get_option_no_throw("--resume"); resume && resume->count() > 0)
    return input_error(option->get_positional() ? value_name(*option) : name, "none",
                       fmt::format("--resume continues with the flags that are given: add --config with the file of "
                                   "the run's, such as {}/run.toml",
                                   resume->results().front()));
  return input_error(option->get_positional() ? value_name(*option) : name + " " + value_name(*option), "none", hint);
}

// "NAME: expected WHAT, got VALUE", the form of the checks in validators.h.
Error wrong_value(const CLI::App& command, const std::string& message) {
  const auto [name, text] = parts(message, ": ");
  constexpr std::string_view kExpected = "expected ";
  if (!text.starts_with(kExpected)) return input_error("a value that " + name + " takes", text, see_help(command));
  const auto [line, hint] = parts(text, "\nHint: ");
  const auto [wanted, found] = parts(line.substr(kExpected.size()), ", got ");
  return input_error(wanted + " for " + name, found, hint);
}

// From a flag without a check: "Could not convert: NAME = VALUE".
std::optional<Error> no_number(const CLI::App& command, const std::string& message) {
  const auto [before, rest] = parts(message, "Could not convert: ");
  const auto [name, value] = parts(rest, " = ");
  const CLI::Option* option = before.empty() ? command.get_option_no_throw(name) : nullptr;
  if (!option) return {};
  const bool whole = value_name(*option) == "N";
  return input_error(fmt::format("a {} for {}", whole ? "whole number" : "number", name), "'" + value + "'",
                     see_help(command));
}

/// For "trian", and for "version" and "--verison".
std::string command_hint(const CLI::App& app, const std::string& typed) {
  const std::string name = bare(typed);
  if (const auto flag = nearest(name, flag_names(app))) return fmt::format("did you mean '--{}'?", *flag);
  return did_you_mean(name, command_names(app), "'halfstep --help' lists the commands");
}

/// The missing command, or the first unknown flag.
std::optional<Error> unknown_name(const CLI::App& app, const CLI::App* command) {
  if (const std::vector<std::string> before = app.remaining(); !before.empty()) {
    if (!command) return input_error("a command", "'" + before.front() + "'", command_hint(app, before.front()));
    return input_error("the command first", "'" + before.front() + "'",
                       fmt::format("write halfstep {} {} …", command->get_name(), before.front()));
  }
  if (!command) return input_error("a command", "none", "'halfstep --help' lists the commands");
  const std::vector<std::string> rest = command->remaining();
  const auto flag = std::find_if(rest.begin(), rest.end(), is_flag);
  if (flag == rest.end()) return {};
  return input_error(fmt::format("a flag of halfstep {}", command->get_name()), "'" + *flag + "'",
                     flag_hint(app, *command, bare(*flag)));
}

std::optional<Error> extra_argument(const CLI::App& command, const std::vector<std::string>& arguments) {
  const std::vector<std::string> rest = command.remaining();
  const auto extra = std::find_if(rest.begin(), rest.end(), [](const std::string& text) { return text != "--"; });
  if (extra == rest.end()) return {};
  return input_error("no further argument", "'" + *extra + "'", extra_hint(command, arguments, *extra));
}

}  // namespace

std::optional<std::string> meant_flag(const CLI::App& command, const std::string& name) {
  std::vector<std::string> known = flag_names(command);
  for (const CLI::Option* option : command.get_options())
    if (option->get_positional()) known.push_back(option->get_name());
  return meant_flag_of(known, bare(name));
}

Error explain_value(const CLI::App& command, const CLI::ParseError& error) {
  const std::string text = error.what();
  if (dynamic_cast<const CLI::ConversionError*>(&error))
    if (std::optional<Error> unread = no_number(command, text)) return *unread;
  return wrong_value(command, text);
}

void check_values(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    const auto refuse_flags = [command](std::string& text) {
      if (!is_flag(text) || !command->get_option_no_throw(text.substr(0, text.find('=')))) return std::string();
      return fmt::format("expected a value, got the flag {}", text);
    };
    for (CLI::Option* option : command->get_options())
      if (takes_value(*option)) option->check(CLI::Validator(refuse_flags, ""));
  }
}

void check_dashes(const CLI::App& app, const std::vector<std::string>& arguments) {
  const auto commands = app.get_subcommands(
      [&](const CLI::App* command) { return !arguments.empty() && command->get_name() == arguments.front(); });
  if (commands.empty()) return;
  for (const std::string& argument : arguments)
    if (argument.size() > 2 && is_flag(argument) && argument[1] != '-' &&
        commands.front()->get_option_no_throw("--" + bare(argument)))
      throw input_error("a flag with two dashes", "'" + argument + "'", fmt::format("did you mean '-{}'?", argument));
}

Error explain(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& arguments) {
  const CLI::App* command = chosen(app);
  if (std::optional<Error> unknown = unknown_name(app, command)) return *unknown;
  const std::string text = error.what();
  if (dynamic_cast<const CLI::ValidationError*>(&error)) return explain_value(*command, error);
  if (dynamic_cast<const CLI::ConversionError*>(&error))
    if (std::optional<Error> unread = no_number(*command, text)) return *unread;
  if (dynamic_cast<const CLI::ExcludesError*>(&error)) {
    const auto [one, other] = parts(text, " excludes ");
    return input_error(fmt::format("one of {} and {}", one, other), "both", "omit one");
  }
  if (dynamic_cast<const CLI::RequiresError*>(&error)) {
    const auto [one, other] = parts(text, " requires ");
    return input_error(fmt::format("{} with {}", other, one), "none", "add " + other);
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error)) {
    const auto [name, what] = parts(text, ": ");
    if (what.ends_with("missing")) return input_error("a value for " + name, "none", see_help(*command));
    return input_error(name + " once", "it " + parts(what, "received ").second + " times", "omit one");
  }
  if (std::optional<Error> extra = extra_argument(*command, arguments)) return *extra;
  if (dynamic_cast<const CLI::RequiredError*>(&error)) return missing(*command, parts(text, " is required").first);
  return input_error("a valid call", text, see_help(*command));
}

}  // namespace halfstep::cli
