// What --help, help and --version print.
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace halfstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kCommands[] = {
    "train", "evaluate",           "run", "convert", "inspect", "profile", "devices", "check", "completion",
    "help",  "bench-communication"};

std::size_t longest_line(const std::string& text) {
  std::size_t longest = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) longest = std::max(longest, line.size());
  return longest;
}

TEST_F(CliTest, HelpReadsLikeAManual) {
  for (const std::string command : kCommands) {
    const Outcome outcome = run(command + " --help");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
    EXPECT_THAT(outcome.output, HasSubstr("\nUsage: halfstep " + command)) << command;
    EXPECT_THAT(outcome.output, testing::ContainsRegex("\nExample:\n  [^\n]*halfstep " + command)) << command;
    EXPECT_LE(longest_line(outcome.output), 80u) << outcome.output;
    // How CLI11 writes types, ranges and defaults.
    for (const char* jargon : {" in [", "FLOAT", "UINT", "TEXT", "INT", "e+", "Excludes", "REQUIRED", "Positionals"})
      EXPECT_THAT(outcome.output, Not(HasSubstr(jargon))) << command;
    EXPECT_EQ(run("help " + command).output, outcome.output) << command;
  }
}

/// The text in one line.
std::string unwrapped(const std::string& text) { return std::regex_replace(text, std::regex("\n {26}"), " "); }

TEST_F(CliTest, HelpTellsDefaultsAndWhatIsRequired) {
  const std::string train = unwrapped(run("train --help").output);
  for (const char* text :
       {"Usage: halfstep train MODEL.onnx --data DATA [FLAGS]", "(default 0.001)", "\nOptimizer:\n",
        "-o, --output TRAINED.onnx", "(required)", "default auto, or $HALFSTEP_PRECISION", "not with --epochs"})
    EXPECT_THAT(train, HasSubstr(text));
  EXPECT_THAT(unwrapped(run("run --help").output), HasSubstr("default fp32, or $HALFSTEP_PRECISION"));
  EXPECT_THAT(unwrapped(run("evaluate --help").output), HasSubstr("default fp32, or $HALFSTEP_PRECISION"));
}

TEST_F(CliTest, EveryFlagIsExplained) {
  for (const std::string command : kCommands) {
    std::istringstream lines(run(command + " --help").output);
    std::string before;
    for (std::string line; std::getline(lines, line); before = line) {
      if (!before.starts_with("  -") || before.size() > 26) continue;
      EXPECT_TRUE(line.starts_with(std::string(26, ' '))) << command << ": " << before;
    }
  }
}

TEST_F(CliTest, HelpOfAFlagRefersToFlagsThatThereAre) {
  const std::regex flag("--[a-z][a-z0-9-]*"), defined("^  (?:-[a-z], )?(--[a-z0-9-]+)"),
      of_others("halfstep [a-z-]+ --[a-z-]+");
  for (const std::string command : kCommands) {
    std::set<std::string> known, named;
    std::istringstream lines(unwrapped(run(command + " --help").output));
    for (std::string line; std::getline(lines, line);) {
      std::smatch found;
      if (!std::regex_search(line, found, defined)) continue;
      known.insert(found[1]);
      const std::string text = std::regex_replace(line, of_others, "");
      named.insert(std::sregex_token_iterator(text.begin(), text.end(), flag), std::sregex_token_iterator());
    }
    for (const std::string& name : named) EXPECT_TRUE(known.contains(name)) << command << " has no " << name;
  }
}

TEST_F(CliTest, EveryFlagIsInAGroup) {
  for (const std::string command : kCommands) {
    const std::string text = run(command + " --help").output;
    const std::size_t other = text.find("\nOther:\n");
    ASSERT_NE(other, std::string::npos) << command;
    EXPECT_THAT(text.substr(other), testing::MatchesRegex("\nOther:\n  -h, --help +prints this\n")) << command;
  }
}

TEST_F(CliTest, BareCallPrintsTheHelp) {
  const Outcome bare = run("");
  EXPECT_EQ(bare.exit_code, 0) << bare.text;
  EXPECT_EQ(bare.output, run("--help").output);
  EXPECT_EQ(bare.output, run("help").output);
  EXPECT_EQ(bare.text, bare.output);
  for (const char* command : kCommands) EXPECT_THAT(bare.output, HasSubstr("\n  " + std::string(command) + " "));
  EXPECT_LE(longest_line(bare.output), 80u) << bare.output;
}

TEST_F(CliTest, VersionTellsTheLibrariesAndExecutors) {
  const Outcome outcome = run("--version");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.output, testing::StartsWith("halfstep "));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("\noneDNN "), HasSubstr("\nONNX 1."), HasSubstr("\nexecutors: "),
                                    HasSubstr("onednn, reference; ")));
}

TEST_F(CliTest, VersionLooksIntoNoPlugin) {
  std::ofstream(folder_ / "libhalfstep-unread.so") << "no library at all\n";
  const Outcome outcome = run("--version", "HALFSTEP_PLUGIN_PATH=.");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
  EXPECT_THAT(outcome.output, HasSubstr("\nexecutors: unread, "));
}

}  // namespace
}  // namespace halfstep
