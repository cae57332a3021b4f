// What an operator is stands in its row: no other source lists operators by name.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "tests/paths.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

/// Files that may, by the end of their path or by a folder in it.
struct Allowed {
  std::string_view file;
  std::string_view reason;
};
constexpr Allowed kAllowed[] = {
    {"kernel_table.cpp", "an executor's kernels by operator"},
    {"/kernels/", "functions of an executor's kernels by operator"},
    {"cudnn/recurrent.cpp", "functions of an executor's kernels by activation"},
    {"cudnn/reduction.cpp", "functions of an executor's kernels by operator"},
    {"conformance/", "how operators are checked that draw numbers, and how their cases are varied"},
    {"lift_rules.cpp", "rewriting of one operator each"},
    {"unsupported.cpp", "what an old operator is called now"},
    {"check_message.cpp", "operators that runtimes put into the wrong domain"},
    {"canonicalize.cpp", "patterns of operators"},
    {"compose_gelu.cpp", "a pattern of operators"},
};

bool is_allowed(const std::string& path) {
  return std::any_of(std::begin(kAllowed), std::end(kAllowed), [&](const Allowed& allowed) {
    return allowed.file.ends_with('/') ? path.find(allowed.file) != std::string::npos : path.ends_with(allowed.file);
  });
}

std::set<std::string_view> operator_names() {
  std::set<std::string_view> names;
  for (const OpDef* row : op_table()) names.insert(row->name);
  return names;
}

/// The lists in a source text: braces without statements that hold two or more operator names, and conditions that
/// compare with three or more.
class ListFinder {
 public:
  ListFinder(std::string_view text, std::set<std::string_view> operators)
      : text_(text), operators_(std::move(operators)) {}

  struct List {
    std::size_t line;
    std::set<std::string> names;
  };
  std::vector<List> find() {
    open_.emplace_back();
    while (at_ < text_.size()) step();
    return std::move(lists_);
  }

 private:
  struct Braces {
    std::size_t line = 1;
    bool has_statements = false;
    std::set<std::string> names = {};
  };

  bool is_next(std::string_view what) const { return text_.substr(at_).starts_with(what); }

  void skip_to(std::string_view what) {
    const std::size_t end = std::min(text_.find(what, at_ + 1), text_.size());
    line_ += static_cast<std::size_t>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                                 text_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    at_ = std::min(end + what.size(), text_.size());
  }

  void step() {
    const char c = text_[at_];
    if (is_next("//")) {
      at_ = std::min(text_.find('\n', at_), text_.size());
      return;
    }
    if (is_next("R\"(")) return skip_to(")\"");
    if (c == '"') return read_string();
    if (c == '\'' && !(at_ > 0 && std::isalnum(static_cast<unsigned char>(text_[at_ - 1])))) {
      at_ += is_next("'\\") ? 4 : 3;
      return;
    }
    if (c == '\n') ++line_;
    if (c == '{') open_.push_back({.line = line_});
    if (c == ';') open_.back().has_statements = true;
    if (c == '}' && open_.size() > 1) close();
    if (c == ';' || c == '{' || c == '}') {
      if (compared_.size() > 2) lists_.push_back({line_, compared_});
      compared_.clear();
    }
    ++at_;
  }

  void read_string() {
    const std::size_t start = at_ + 1;
    for (at_ = start; at_ < text_.size() && text_[at_] != '"'; ++at_)
      if (text_[at_] == '\\') ++at_;
    const std::string_view name = text_.substr(start, std::min(at_, text_.size()) - start);
    ++at_;
    if (!operators_.contains(name)) return;
    open_.back().names.emplace(name);
    const std::string_view before = text_.substr(0, start - 1);
    for (std::string_view comparison : {"is(", "is_own(", "== ", "!= "})
      if (before.ends_with(comparison)) compared_.emplace(name);
  }

  void close() {
    Braces closed = std::move(open_.back());
    open_.pop_back();
    if (closed.has_statements) return;
    open_.back().names.insert(closed.names.begin(), closed.names.end());
    if (closed.names.size() > 1) lists_.push_back({closed.line, std::move(closed.names)});
  }

  std::string_view text_;
  std::set<std::string_view> operators_;
  std::size_t at_ = 0, line_ = 1;
  std::vector<Braces> open_;
  std::set<std::string> compared_;
  std::vector<List> lists_;
};

TEST(OperatorLists, StandInRowsOnly) {
  const std::set<std::string_view> operators = operator_names();
  std::size_t files = 0;
  for (const fs::directory_entry& folder : fs::directory_iterator(test::source_dir())) {
    const std::string name = folder.path().filename().string();
    if (!folder.is_directory() || name.starts_with('.') || name == "ops" || name == "tests" || name == "examples" ||
        name == "build")
      continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      const fs::path extension = entry.path().extension();
      if (extension != ".cpp" && extension != ".h" && extension != ".cu" && extension != ".cuh") continue;
      const std::string path = fs::relative(entry.path(), test::source_dir()).string();
      if (is_allowed(path)) continue;
      ++files;
      std::ostringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      for (const ListFinder::List& list : ListFinder(text.str(), operators).find())
        ADD_FAILURE() << fmt::format(
            "{}:{} lists {}: what these have in common belongs into their rows, as a trait (ops/op_traits.h)", path,
            list.line, fmt::join(list.names, ", "));
    }
  }
  EXPECT_GT(files, 100u);
}

struct Source {
  const char* text;
  std::vector<std::size_t> lines;  ///< of what is found
};

TEST(OperatorLists, AreFoundWhereverTheyAre) {
  const std::vector<Source> sources = {
      {"constexpr std::array kViews{\"Reshape\",\n \"Flatten\"};", {1}},
      {"void f() {\n  static const std::set<std::string> views{\"Reshape\", \"Flatten\"};\n}", {2}},
      {"const Rule kRules[] = {\n {\"Relu\", [](X& x) { x = 0; }},\n {\"Tanh\", nullptr}};", {1}},
      {"bool f(const Node& n) { return n.is(\"RNN\") || n.is(\"GRU\") || n.is(\"LSTM\"); }", {1}},
      {"void f() {\n  b.op(\"Relu\", {x});\n  b.op(\"Tanh\", {x});\n}", {}},
      {"bool f(const Node& n) { return n.is(\"Sin\") || n.is(\"Cos\"); }", {}},
      {"f({\"Relu\", x}); g({\"Reluctant\", \"axis\"});", {}},
      {"// {\"Relu\", \"Tanh\"}\nf(R\"({\"Relu\", \"Tanh\"})\"); char c = '{';", {}},
  };
  const std::set<std::string_view> operators = operator_names();
  for (const Source& source : sources) {
    std::vector<std::size_t> lines;
    for (const ListFinder::List& list : ListFinder(source.text, operators).find()) lines.push_back(list.line);
    EXPECT_EQ(lines, source.lines) << source.text;
  }
}

// A name that is not in the table has the traits of an operator of which nothing is known.
TEST(OperatorTraits, AreThoseOfTheRow) {
  EXPECT_EQ(traits_of("Flatten").movement, Movement::reshape);
  EXPECT_EQ(traits_of("Conv").operands[1], OperandRole::weight);
  EXPECT_EQ(traits_of("Einsum").operands[11], OperandRole::weight);
  EXPECT_EQ(traits_of("Conv").operands[11], OperandRole::data);
  EXPECT_EQ(traits_of("DeformConv").operands[3], OperandRole::bias) << "known, though nothing here computes it";
  EXPECT_TRUE(traits_of("PhiloxRandom", kOwnDomain).random);
  for (const char* domain : {"com.microsoft", "ai.halfstep"})
    EXPECT_EQ(traits_of("Flatten", domain).movement, Movement::none) << domain;
}

}  // namespace
}  // namespace halfstep
