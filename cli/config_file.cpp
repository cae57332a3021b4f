#include "cli/config_file.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <toml++/toml.h>

#include "base/enum_names.h"
#include "base/parse_number.h"
#include "base/path_state.h"
#include "cli/help.h"
#include "cli/parse_errors.h"
#include <halfstep/base/error.h>

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "--config";
constexpr std::uintmax_t kMostBytes = std::uintmax_t{1} << 20;

// Flags that are not keys: those for configuration files, and help.
constexpr std::string_view kNoKeys[] = {"help", "config"};

// The allowed form of a key's value.
enum class Kind { flag, flag_or_text, whole_number, number, text };

Kind kind_of(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return option.get_type_name().empty() ? Kind::flag : Kind::flag_or_text;
  const std::string name = value_name(option);
  if (name == "N" || name.starts_with("N[") || name == "BYTES" || name == "COUNT") return Kind::whole_number;
  return name == "X" || name.starts_with("X[") ? Kind::number : Kind::text;
}

/// Whether it has several values, separated by commas.
bool takes_list(const CLI::Option& option) {
  const std::string name = value_name(option);
  return option.get_delimiter() != 0 || name == "DATA" || name == "LIST" || kind_of(option) == Kind::flag_or_text;
}
/// Whether the flag may be repeated.
bool repeats(const CLI::Option& option) { return option.get_items_expected_max() > 1 && option.get_delimiter() == 0; }

std::string_view expected(Kind kind) {
  constexpr std::string_view kExpected[] = {"true or false", "true, false or a string", "a whole number", "a number",
                                            "a string"};
  return name_in(kExpected, kind);
}

std::string key_of(const CLI::Option& option) {
  return option.get_lnames().empty() ? option.get_name() : option.get_lnames().front();
}

bool is_key(const CLI::Option& option) {
  const std::string key = key_of(option);
  return std::find(std::begin(kNoKeys), std::end(kNoKeys), key) == std::end(kNoKeys);
}

CLI::Option* option_for(CLI::App& command, const std::string& key) {
  CLI::Option* option = command.get_option_no_throw("--" + key);
  if (!option && !key.empty() && key[0] != '-') option = command.get_option_no_throw(key);
  return option && is_key(*option) ? option : nullptr;
}

std::string show(const toml::node& node) {
  if (const auto* text = node.as_string()) return fmt::format("the string '{}'", text->get());
  if (const auto* whole = node.as_integer()) return fmt::format("{}", whole->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  if (node.is_array()) return "an array";
  return node.is_table() ? "a table" : "a date or time";
}

/// TOML integers are limited to i64; seeds may be larger.
bool is_beyond_i64(const std::string& text) {
  const auto value = parse_number<std::uint64_t>(text);
  return value && *value > std::uint64_t{INT64_MAX};
}

/// The value in its command-line form; nothing if it has another type.
std::optional<std::string> text_of(Kind kind, const CLI::Option& option, const toml::node& node) {
  const auto* text = node.as_string();
  const auto* whole = node.as_integer();
  const auto* number = node.as_floating_point();
  switch (kind) {
    case Kind::flag:
      break;
    case Kind::whole_number:
      if (whole) return fmt::format("{}", whole->get());
      if (text && is_beyond_i64(text->get())) return text->get();
      break;
    case Kind::number:
      if (whole) return fmt::format("{}", whole->get());
      if (number) return fmt::format("{}", number->get());
      break;
    case Kind::text:
      // The number of a column; a factor, which may be a fraction; a class.
      if (whole && value_name(option) != "DATA") return fmt::format("{}", whole->get());
      if (number && value_name(option).starts_with("X|")) return fmt::format("{}", number->get());
      [[fallthrough]];
    case Kind::flag_or_text:
      if (text) return text->get();
      break;
  }
  return {};
}

/// A configuration file of a command.
class ConfigFile {
 public:
  ConfigFile(CLI::App& command, const std::string& path, const std::vector<std::string>& arguments)
      : command_(command), path_(path) {
    for (CLI::Option* option : command.get_options())
      if (option->count() > 0 && is_in(*option, arguments)) given_.insert(option);
  }

  void apply() {
    const toml::table table = parse();
    std::vector<std::pair<std::string, const toml::node*>> entries;
    for (const auto& [key, node] : table) {
      lines_[std::string(key.str())] = key.source().begin.line;
      entries.emplace_back(key.str(), &node);
    }
    std::sort(entries.begin(), entries.end(),
              [&](const auto& a, const auto& b) { return lines_[a.first] < lines_[b.first]; });
    for (const auto& [key, node] : entries) apply(key, *node);
  }

 private:
  /// Not from the environment: other options cannot come from there.
  static bool is_in(const CLI::Option& option, const std::vector<std::string>& arguments) {
    return option.get_envname().empty() ||
           std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
             return option.check_name(argument.substr(0, argument.find('=')));
           });
  }

  toml::table parse() const {
    std::error_code none;
    if (!is_there(path_)) throw_input_error("a file for --config", why_not_there(path_), "check the path");
    if (!fs::is_regular_file(path_, none) || fs::file_size(path_, none) > kMostBytes)
      throw_input_error("a TOML file of at most 1 MiB for --config", path_, "check the path");
    std::ifstream file(path_, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    if (!file) throw_input_error("a file for --config that can be read", path_, "check its permissions");
    try {
      return toml::parse(text);
    } catch (const toml::parse_error& error) {
      throw_input_error("TOML",
                        fmt::format("{}:{}: {}", path_, error.source().begin.line, std::string(error.description())),
                        "a line is KEY = VALUE, a string in quotes: data = \"x.npy,y.npy\"");
    }
  }

  void apply(const std::string& key, const toml::node& node) {
    CLI::Option* option = option_for(command_, key);
    if (!option) {
      const std::optional<std::string> meant = meant_flag(command_, key);
      throw_input_error(fmt::format("flags of halfstep {} as keys", command_.get_name()),
                        at(fmt::format("'{}'", key), key),
                        meant ? fmt::format("did you mean '{}'?", *meant)
                              : fmt::format("'halfstep {} --help' lists the flags", command_.get_name()));
    }
    const std::vector<std::string> texts = texts_of(*option, key, node);
    if (given_.contains(option) || texts.empty()) return;
    for (CLI::Option* other : option->get_excludes())
      if (given_.contains(other)) return;
    option->clear();  // discards the value from the environment
    option->add_result(texts);
    try {
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      const Error about = explain_value(command_, error);
      throw Error(about.kind(), about.required(), at(about.found(), key), about.remedy());
    }
  }

  std::vector<std::string> texts_of(const CLI::Option& option, const std::string& key, const toml::node& node) const {
    const Kind kind = kind_of(option);
    if (const auto* truth = node.as_boolean(); truth && (kind == Kind::flag || kind == Kind::flag_or_text)) {
      if (!truth->get()) return {};
      return {"true"};
    }
    const bool list = takes_list(option), several = repeats(option);
    std::vector<std::string> texts;
    if (const toml::array* array = node.as_array(); array && (list || several)) {
      for (const toml::node& element : *array) {
        const std::optional<std::string> text = text_of(kind, option, element);
        if (!text)
          throw_input_error(fmt::format("{} in the array {}", expected(kind), key), at(show(element), key), "");
        texts.push_back(*text);
      }
      if (several || option.get_delimiter() != 0 || texts.empty()) return texts;
      return {fmt::format("{}", fmt::join(texts, ","))};
    }
    std::optional<std::string> text = text_of(kind, option, node);
    // "0.5,0.25", as on the command line.
    if (!text && list && node.is_string()) text = node.as_string()->get();
    if (!text)
      throw_input_error(fmt::format("{}{} for {}", expected(kind), list || several ? " or an array of them" : "", key),
                        at(show(node), key), "");
    return {*text};
  }

  std::string at(const std::string& found, const std::string& key) const {
    return fmt::format("{} in {}:{}", found, path_, lines_.at(key));
  }

  CLI::App& command_;
  std::string path_;
  std::set<const CLI::Option*> given_;
  std::map<std::string, toml::source_index> lines_;
};

bool is_utf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

/// As TOML: numbers have the values of the command line, but in TOML syntax.
std::string toml_text(Kind kind, const std::string& text) {
  if (kind == Kind::whole_number)
    if (const auto value = parse_number<std::int64_t>(std::string_view(text).substr(text.starts_with('+'))))
      return fmt::format("{}", *value);
  if (kind == Kind::number) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (!text.empty() && *end == 0) return fmt::format("{}", value);
  }
  std::ostringstream out;
  out << toml::value<std::string>(text);
  return out.str();
}

std::string line_of(const CLI::Option& option) {
  const Kind kind = kind_of(option);
  std::vector<std::string> texts = option.results();
  if ((kind == Kind::flag || kind == Kind::flag_or_text) && (texts.front() == "true" || texts.front() == "false"))
    return fmt::format("{} = {}\n", key_of(option), texts.front());
  for (std::string& text : texts) {
    if (!is_utf8(text))
      throw_input_error("flags in UTF-8, as TOML is", fmt::format("--{} {}", key_of(option), text),
                        "--save-config none writes no file of them");
    text = toml_text(kind, text);
  }
  if (texts.size() == 1 && !repeats(option)) return fmt::format("{} = {}\n", key_of(option), texts.front());
  return fmt::format("{} = [{}]\n", key_of(option), fmt::join(texts, ", "));
}

}  // namespace

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description) {
  CLI::App* command = app.add_subcommand(name, description);
  // It is first, because its file sets values of other flags before those are processed.
  command
      ->add_option(
          kConfig,
          "reads flags from this TOML file, as KEY = VALUE without dashes; flags on the command line take precedence")
      ->type_name("FILE.toml");
  return command;
}

void read_configs(CLI::App& app, const std::vector<std::string>& arguments) {
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; }))
    if (CLI::Option* config = command->get_option_no_throw(kConfig))
      config->each([command, &arguments](const std::string& path) { ConfigFile(*command, path, arguments).apply(); });
}

std::string config_file_of(const CLI::App& command) {
  const CLI::Option* option = command.get_option_no_throw(kConfig);
  return option && !option->empty() ? option->results().back() : "";
}

std::string config_text(const CLI::App& command) {
  std::string text =
      fmt::format("{}{}, for: halfstep {} --config FILE\n", kConfigMark, command.get_name(), command.get_name());
  std::string defaults;
  for (const CLI::Option* option : command.get_options()) {
    if (!is_key(*option)) continue;
    if (option->count() > 0)
      text += line_of(*option);
    else if (const std::string value = option->get_default_str(); !value.empty())
      defaults += fmt::format("#   {}: {}\n", key_of(*option), value);
  }
  return defaults.empty() ? text : text + "\n# Defaults of the others:\n" + defaults;
}

}  // namespace halfstep::cli
