#include "cli/help.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/common.h"
#include "cli/nearest.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/step/optimizer_options.h>

namespace halfstep::cli {
namespace {

constexpr std::size_t kWidth = 80, kColumn = 26;

struct Group {
  const char* title;
  std::vector<std::string> flags;
};

std::vector<std::string> optimizer_flags() {
  std::vector<std::string> flags = {"--optimizer", "--lr", "--lr-schedule"};
  for (const OptimizerNumber& number : optimizer_numbers()) {
    if (number.name == "loss-scale-min") flags.push_back("--loss-scale");
    flags.push_back("--" + number.name);
  }
  flags.push_back("--max-skipped");
  return flags;
}

/// The flags of all commands in the order of help, before those that name their group themselves; the last group has
/// the flags that are in no other, which should only be --help.
const std::vector<Group>& groups() {
  static const std::vector<Group> kGroups{
      {"Data",
       {"--data",       "--val-data",   "--split",   "--input",      "--training",     "--calibrate",    "--verify",
        "--batch",      "--scale",      "--mean",    "--std",        "--layout",       "--label-column", "--classes",
        "--image-size", "--image-crop", "--augment", "--batch-axis", "--max-unpacked", "--shape"}},
      {"Result",
       {"--output", "--fp16-output", "--output-form", "--report", "--dry-run", "--by", "--depth", "--top", "--trace",
        "--json", "--junit", "--markdown"}},
      {"Training run", {"--epochs", "--steps", "--no-shuffle", "--seed"}},
      {"Loss and metrics",
       {"--loss", "--loss-weight", "--labels", "--loss-model", "--class-weights", "--loss-output", "--class-axis",
        "--ignore-label", "--sample-weights", "--metrics"}},
      {"Optimizer", optimizer_flags()},
      {"Parameters", {"--freeze", "--trainable", "--parameter-group", "--untie", "--freeze-batchnorm", "--no-dropout"}},
      {"Checkpoints and logs",
       {"--early-stopping", "--watch", "--average", "--checkpoint", "--checkpoint-every", "--resume", "--log",
        "--log-grad-norms", "--tensorboard", "--tensorboard-histograms", "--curve", "--dump-passes"}},
      {"Distributed training",
       {"--distributed", "--bucket-size", "--gradient-precision", "--sharded-optimizer", "--sync-batchnorm",
        "--distributed-timeout", "--heartbeat-timeout", "--latency", "--bandwidth"}},
      {"Plan", {"--parameters", "--plan", "--describe-device", "--memory"}},
      {"Checks", {"--op", "--case", "--kind", "--dtype", "--cases", "--random", "--mutate", "--crash-file"}},
      {"Precision and device",
       {"--precision", "--fp32-math", "--tune", "--deterministic", "--executor", "--device", "--threads", "--plugin",
        "--memory-budget"}},
      {"Selection of nodes",
       {"--keep-io-types", "--keep-fp32", "--force-half", "--max-error", "--functions", "--metadata",
        "--external-data"}},
      {"Configuration file", {"--config", "--save-config"}},
      {"Other", {}},
  };
  return kGroups;
}

/// Lines of at most kWidth columns, all but the first indented by `indent`. The text may contain line breaks.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::string result;
  std::size_t column = indent;
  bool first = true;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" \n", begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    if (!first && column + 1 + word.size() > kWidth) {
      result += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!first) {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
    first = false;
    begin = end + 1;
    if (end < text.size() && text[end] == '\n') {
      result += "\n" + std::string(indent, ' ');
      column = indent;
      first = true;
    }
  }
  return result;
}

std::string label(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  const std::string type = value_name(option);
  return fmt::format("{}{}{}", fmt::join(names, ", "), type.empty() ? "" : " ", type);
}

/// The description, and additional information in parentheses.
std::string explanation(const CLI::Option& option) {
  std::vector<std::string> notes;
  if (option.get_required()) notes.push_back("required");
  std::string fallback = option.get_default_str();
  if (!fallback.empty()) {
    if (!option.get_envname().empty()) fallback += ", or $" + option.get_envname();
    notes.push_back("default " + fallback);
  }
  for (const CLI::Option* other : option.get_needs()) notes.push_back("with " + other->get_name());
  for (const CLI::Option* other : option.get_excludes()) notes.push_back("not with " + other->get_name());
  if (notes.empty()) return option.get_description();
  return fmt::format("{} ({})", option.get_description(), fmt::join(notes, "; "));
}

std::string row(const std::string& name, const std::string& text) {
  std::string line = "  " + name;
  line += line.size() + 2 > kColumn ? "\n" + std::string(kColumn, ' ') : std::string(kColumn - line.size(), ' ');
  return line + wrapped(text, kColumn) + "\n";
}

std::string usage(const CLI::App& app, std::string_view prefix) {
  std::string text(prefix);
  if (!app.get_subcommands([](const CLI::App*) { return true; }).empty()) return text + " COMMAND [FLAGS]";
  for (const CLI::Option* option : app.get_options())
    if (option->get_positional())
      text += (option->get_required() ? " " : " [") + value_name(*option) + (option->get_required() ? "" : "]");
  for (const CLI::Option* option : app.get_options())
    if (!option->get_positional() && option->get_required())
      text += fmt::format(" {} {}", option->get_name(), value_name(*option));
  return text + " [FLAGS]";
}

std::string flags_by_group(const CLI::App& app) {
  std::vector<const CLI::Option*> rest = app.get_options(
      [](const CLI::Option* option) { return option->nonpositional() && !option->get_group().empty(); });
  std::string text;
  for (const Group& group : groups()) {
    std::string rows;
    const auto take = [&](std::vector<const CLI::Option*>::iterator at) {
      rows += row(label(**at), explanation(**at));
      return rest.erase(at);
    };
    for (const std::string& flag : group.flags) {
      const auto at =
          std::find_if(rest.begin(), rest.end(), [&](const CLI::Option* option) { return option->check_name(flag); });
      if (at != rest.end()) take(at);
    }
    for (auto at = rest.begin(); at != rest.end();) at = (*at)->get_group() == group.title ? take(at) : std::next(at);
    if (group.flags.empty())
      for (auto at = rest.begin(); at != rest.end();) at = take(at);
    if (!rows.empty()) text += fmt::format("\n{}:\n{}", group.title, rows);
  }
  return text;
}

class Manual final : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const override {
    std::string text = fmt::format("{}\n\nUsage: {}\n", wrapped(app->get_description(), 0), usage(*app, name));
    const std::vector<const CLI::App*> commands = app->get_subcommands([](const CLI::App*) { return true; });
    if (!commands.empty()) text += "\nCommands:\n";
    for (const CLI::App* command : commands) text += row(command->get_name(), command->get_description());
    if (commands.empty() && !app->get_footer().empty()) text += "\n" + app->get_footer() + "\n";
    text += flags_by_group(*app);
    if (!commands.empty() && !app->get_footer().empty()) text += "\n" + app->get_footer() + "\n";
    return text;
  }
};

}  // namespace

// CLI11 uses C++ type names, and adds the names of checks.
std::string value_name(const CLI::Option& option) {
  if (option.get_type_size() == 0) return {};
  std::string type = option.get_type_name();
  type.erase(std::min(type.find(':'), type.size()));
  if (type == "INT" || type == "UINT") return "N";
  if (type == "FLOAT") return "X";
  return type == "TEXT" ? "NAME" : type;
}

void use_manual_help(CLI::App& app) {
  app.formatter(std::make_shared<Manual>());
  app.set_help_flag("-h,--help", "prints this");
}

void add_help(CLI::App& app) {
  CLI::App* command = app.add_subcommand("help", "Prints what a command does, its flags and an example.");
  auto topic = std::make_shared<std::string>();
  command->add_option("command", *topic, "the command")->type_name("COMMAND");
  command->footer("Example:\n  halfstep help train");
  command->callback([&app, topic] {
    std::vector<std::string> names;
    for (const CLI::App* known : app.get_subcommands([](const CLI::App*) { return true; })) {
      if (known->get_name() == *topic) return print_out("{}", Raw{known->help("halfstep")});
      names.push_back(known->get_name());
    }
    if (!topic->empty())
      throw_input_error("a command", "'" + *topic + "'",
                        did_you_mean(*topic, names, "'halfstep --help' lists the commands"));
    // Not app.help(), which is the help of the given command.
    print_out("{}", Raw{app.get_formatter()->make_help(&app, "halfstep", CLI::AppFormatMode::Normal)});
  });
}

}  // namespace halfstep::cli
