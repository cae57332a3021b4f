// halfstep check: verifies computations on this machine: programs, training, and every operator, against finite
// differences, the reference executor and ONNX's own test cases.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fnmatch.h>

#include "base/atomic_file.h"
#include "cli/check_report.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/config_file.h"
#include "cli/nearest.h"
#include "cli/progress.h"
#include "conformance/cases.h"
#include "conformance/mutate_case.h"
#include "conformance/onnx_case.h"
#include "conformance/operator_table.h"
#include <halfstep/base/error.h>
#include <halfstep/conformance/checks.h>
#include <halfstep/conformance/crash_note.h>

namespace halfstep::cli {
namespace {

struct CheckFlags {
  ExecutorFlags executor;
  std::string op = "*", case_name = "*", kind, dtype, cases, junit, crash_file;
  std::size_t random = CheckSelection().random;  // random variations of each case
  std::size_t mutants = 0;
  std::uint64_t seed = 0;
  bool as_json = false, as_markdown = false;
};

// ' ends and restarts a shell string around a quoted one.
std::string shell_quoted(const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || std::string_view("_-./,=:+").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain && !text.empty()) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

// Names of variations end in an additional number: Relu/0/17.
bool is_draw(const CheckReport& report) {
  const std::string& name = report.case_name;
  return report.kind != CheckKind::onnx_case && std::count(name.begin(), name.end(), '/') == 2 &&
         std::isdigit(static_cast<unsigned char>(name.back())) != 0;
}

std::string repeat_command(const CheckReport& report, const CheckFlags& flags) {
  std::string command = "halfstep check";
  if (report.kind != CheckKind::gradient)
    command += flags.executor.plugin.empty() ? " --executor " + flags.executor.executor
                                             : " --plugin " + shell_quoted(flags.executor.plugin);
  if (report.kind != CheckKind::gradient && !flags.executor.device.empty())
    command += " --device " + flags.executor.device;
  if (!flags.cases.empty()) command += " --cases " + shell_quoted(flags.cases);
  if (flags.cases.empty()) command += fmt::format(" --kind {}", name_of(report.kind));
  if (report.kind == CheckKind::mutation && flags.op != "*") command += " --op " + shell_quoted(flags.op);
  if (report.kind == CheckKind::mutation)
    command += fmt::format(" --mutate {} --seed {}", flags.mutants, flags.seed);
  else if (is_draw(report))
    command += fmt::format(" --random {} --seed {}", flags.random, flags.seed);
  else if (report.kind == CheckKind::execution || report.kind == CheckKind::special ||
           report.kind == CheckKind::statistics || report.kind == CheckKind::training)
    command += fmt::format(" --dtype {}", name_of(report.dtype));
  return command + " --case " + shell_quoted(report.case_name);
}

std::vector<std::string> operator_names() {
  std::vector<std::string> names;
  for (const OpDef* op : op_table()) names.push_back(qualified_name(*op));
  return names;
}

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

CheckSelection selection_of(const CheckFlags& flags) {
  CheckSelection selection{.op = flags.op, .case_name = flags.case_name, .random = flags.random, .seed = flags.seed};
  if (!flags.kind.empty()) selection.kind = parse_check_kind(flags.kind);
  if (!flags.dtype.empty()) {
    selection.dtype = dtype_from_name(flags.dtype);
    if (!is_float(*selection.dtype))
      throw_input_error("--dtype f32, f16, bf16 or f64", fmt::format("'{}'", flags.dtype), "name one of them");
  }
  return selection;
}

// A mutant that runs longer is considered hanging: the program ends by SIGALRM, and reports the mutant.
constexpr unsigned kLongestMutantSeconds = 120;
// Memory limit of a mutant: larger allocations fail immediately, which leaves memory to other programs.
constexpr std::size_t kMutantBytes = std::size_t{2} << 30;

// Runs the checks selected by the flags, and reports failures as they occur.
class CheckRun {
 public:
  CheckRun(const CheckFlags& flags, Executor& executor) : flags_(flags), executor_(executor) {
    summary_.executor = executor.name();
    summary_.repeat_command = [this](const CheckReport& report) { return repeat_command(report, flags_); };
  }

  CheckSummary& run() {
    if (flags_.cases.empty())
      run_table();
    else if (flags_.mutants > 0)
      run_mutants();
    else
      run_onnx_cases();
    clear_progress();
    return summary_;
  }

 private:
  void run_table() {
    bool matched = false;
    for (const OpDef* op : op_table()) {
      if (!matches(flags_.op, qualified_name(*op))) continue;
      matched = true;
      if (op->cases.empty() && flags_.case_name == "*") summary_.without_cases.push_back(qualified_name(*op));
    }
    if (!matched)
      throw_input_error("--op as the name of an operator, or a pattern that matches one",
                        fmt::format("'{}'", flags_.op),
                        did_you_mean(flags_.op, operator_names(), "custom operators are named ai.halfstep.NAME"));
    for (const Check& check : list_checks(selection_of(flags_)))
      run_check(check.about, kLongestCheckSeconds, [&] { return check.run(executor_); });
    if (summary_.reports.empty() && summary_.without_cases.empty()) no_such_case("cases of the table are named Relu/0");
  }

  bool has_wanted_operator(const OnnxCase& onnx_case) const {
    const std::vector<std::string> operators = onnx_case.operators();
    return std::any_of(operators.begin(), operators.end(), [&](const auto& op) { return matches(flags_.op, op); });
  }

  // By its path, or by the last component of it.
  bool is_wanted_case(const std::string& name) const {
    return matches(flags_.case_name, name) || matches(flags_.case_name, name.substr(name.rfind('/') + 1));
  }

  void run_onnx_cases() {
    for (const OnnxCase& onnx_case : find_onnx_cases(flags_.cases))
      if (has_wanted_operator(onnx_case) && is_wanted_case(onnx_case.name()))
        run_check({.op = {}, .case_name = onnx_case.name(), .kind = CheckKind::onnx_case}, kLongestCheckSeconds,
                  [&] { return check_onnx_case(onnx_case, executor_); });
    if (summary_.reports.empty()) no_such_case("cases are named after their folders");
  }

  // The case that mutant k is made of depends only on seed and k, so --case selects it without running the others.
  void run_mutants() {
    std::vector<OnnxCase> cases;
    for (OnnxCase& onnx_case : find_onnx_cases(flags_.cases))
      if (has_wanted_operator(onnx_case) && not_applicable(onnx_case).empty()) cases.push_back(std::move(onnx_case));
    limit_growth(kMutantBytes);
    for (std::size_t k = 0; k < flags_.mutants && !cases.empty(); ++k) {
      const OnnxCase& onnx_case = cases[mutated_case_index(flags_.seed, k, cases.size())];
      if (is_wanted_case(mutant_name(onnx_case, k))) run_mutant(onnx_case, k);
    }
    if (summary_.reports.empty()) no_such_case("mutants are named CASE#NUMBER");
  }

  void run_mutant(const OnnxCase& onnx_case, std::size_t number) {
    const MutatedCase mutant = mutate_case(onnx_case, flags_.seed, number);
    run_check(
        {.op = {}, .case_name = mutant_name(onnx_case, number), .kind = CheckKind::mutation}, kLongestMutantSeconds,
        [&] { return check_mutant(onnx_case, mutant, number, executor_); }, mutant.changes);
  }

  // If the program ends meanwhile, it reports the current check.
  void run_check(const CheckReport& about, unsigned seconds, const std::function<CheckReport()>& run,
                 const std::string& details = {}) {
    const std::string repeat = summary_.repeat_command(about);
    if (!flags_.crash_file.empty()) std::ofstream(flags_.crash_file) << repeat << "\n" << details;
    note_.begin(fmt::format("{}\n  {}\n{}", describe(about), repeat, details), seconds);
    CheckReport report = run();
    note_.end();
    add(std::move(report));
  }

  [[noreturn]] void no_such_case(const std::string& remedy) const {
    throw_input_error("--op, --case and --kind that leave a case to run",
                      fmt::format("--op {} --case {}{}", shell_quoted(flags_.op), shell_quoted(flags_.case_name),
                                  flags_.kind.empty() ? "" : " --kind " + flags_.kind),
                      remedy);
  }

  void add(CheckReport report) {
    if (!report.ok() && !flags_.as_json) {
      clear_progress();
      print_failure(report, summary_);
      std::fflush(stdout);
    }
    summary_.reports.push_back(std::move(report));
    if (!terminal_) return;
    print_to(stderr, "\r{} checks, {}\033[K", summary_.reports.size(), summary_.reports.back().case_name);
    std::fflush(stderr);
  }
  void clear_progress() const {
    if (terminal_) print_to(stderr, "\r\033[K");
  }

  const CheckFlags& flags_;
  Executor& executor_;
  CheckSummary summary_;
  CrashNote note_;
  const bool terminal_ = ProgressStyle::detect(stderr).terminal;
};

/// Rejects combinations of flags without a meaning.
void check_flags(const CheckFlags& flags) {
  constexpr const char* kNameFolder = "name a folder of ONNX test cases";
  if (flags.mutants > 0 && flags.cases.empty()) throw_input_error("--cases with --mutate", "none", kNameFolder);
  if (flags.kind.empty()) return;
  const CheckKind kind = parse_check_kind(flags.kind);
  if ((kind == CheckKind::onnx_case || kind == CheckKind::mutation) && flags.cases.empty())
    throw_input_error("--cases with --kind " + flags.kind, "none", kNameFolder);
  if (kind == CheckKind::mutation && flags.mutants == 0)
    throw_input_error("--mutate with --kind mutation", "none", "give the number of mutants: --mutate 100");
  const CheckKind of_cases = flags.mutants > 0 ? CheckKind::mutation : CheckKind::onnx_case;
  if (!flags.cases.empty() && kind != of_cases)
    throw_input_error(
        fmt::format("--kind {} with --cases{}", name_of(of_cases), flags.mutants > 0 ? " and --mutate" : ""),
        "--kind " + flags.kind, "omit --kind");
  const bool has_dtype = kind == CheckKind::training || kind == CheckKind::execution || kind == CheckKind::special ||
                         kind == CheckKind::statistics;
  if (!flags.dtype.empty() && !has_dtype)
    throw_input_error("--kind training, execution, special or statistics with --dtype", "--kind " + flags.kind,
                      "omit --dtype: these checks have their own types");
}

void check(const CheckFlags& flags, int& exit_code) {
  check_flags(flags);
  for (const std::string& file : {flags.junit, flags.crash_file})
    if (!file.empty()) check_writable(file);
  const std::unique_ptr<Executor> executor = flags.executor.open();
  if (flags.as_markdown) {
    print_out("{}", Raw{operators_markdown(*executor)});
    return;
  }
  CheckRun run(flags, *executor);
  const CheckSummary& summary = run.run();
  if (!flags.crash_file.empty()) std::filesystem::remove(flags.crash_file);
  if (!flags.junit.empty()) write_junit(summary, flags.junit);
  if (flags.as_json)
    print_json(summary);
  else
    print_summary(summary);
  if (!summary.ok()) exit_code = 1;
}

}  // namespace

void add_check(CLI::App& app, int& exit_code) {
  CLI::App* command =
      add_command(app, "check",
                  "Checks an executor on this machine: the contract of programs and states; training of small models; "
                  "every operator against the reference, also with larger tensors and with operands that contain NaN, "
                  "infinities, -0 and subnormal numbers; random numbers against their distribution; gradients against "
                  "finite differences. Or ONNX's own test cases.");
  command->footer("Example:\n  halfstep check --executor onednn --op 'Conv*'");
  auto flags = std::make_shared<CheckFlags>();
  flags->executor.add_to(*command);
  command->add_option("--op", flags->op, "operators with names that match this shell pattern")->type_name("PATTERN");
  command->add_option("--case", flags->case_name, "cases with names that match this shell pattern: Relu/0, test_relu*")
      ->type_name("PATTERN");
  command
      ->add_option("--kind", flags->kind,
                   "only program, training, gradient, execution, special or statistics (default: all); onnx needs "
                   "--cases, mutation --mutate")
      ->check(suggested({"program", "training", "gradient", "execution", "special", "statistics", "onnx", "mutation"}));
  command
      ->add_option("--dtype", flags->dtype, "training, execution, special and statistics only in f32, f16, bf16 or f64")
      ->type_name("TYPE")
      ->check(suggested({"f32", "f16", "bf16", "f64"}));
  command
      ->add_option("--cases", flags->cases,
                   "ONNX test cases in this folder (CASE/model.onnx, CASE/test_data_set_0), instead of the table's own")
      ->type_name("FOLDER");
  command->add_option("--random", flags->random, "number of random variations of each case")
      ->type_name("COUNT")
      ->capture_default_str()
      ->check(whole_number());
  command
      ->add_option("--mutate", flags->mutants,
                   "checks this number of randomly modified ONNX cases instead of all original ones")
      ->type_name("COUNT")
      ->check(whole_number());
  command->add_option("--seed", flags->seed, "seed of --random and --mutate")
      ->capture_default_str()
      ->check(whole_number());
  command->add_option("--crash-file", flags->crash_file, "file with the name of the current check; removed at the end")
      ->type_name("FILE");
  CLI::Option* json = command->add_flag("--json", flags->as_json, "prints every check as JSON");
  command->add_flag("--markdown", flags->as_markdown, "only prints the table of operators (docs/operators.md)")
      ->excludes(json);
  command->add_option("--junit", flags->junit, "also writes the results as JUnit XML")->type_name("FILE.xml");
  command->callback([flags, &exit_code] { check(*flags, exit_code); });
}

}  // namespace halfstep::cli
