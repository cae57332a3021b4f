// halfstep: trains, evaluates, runs and converts ONNX models. Exit codes: 0 success, 1 failure of the work itself, 2
// invalid call or input, 128 + the signal's number if a signal ended it.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/completion.h"
#include "cli/config_file.h"
#include "cli/help.h"
#include "cli/openmp_waiting.h"
#include "cli/parse_errors.h"
#include "cli/ranks.h"
#include "cli/standard_streams.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/executors/versions.h>

namespace {

using namespace halfstep;

constexpr int kFailed = 1;
constexpr int kWrongInput = 2;

constexpr const char* kEpilogue = R"(Examples:
  halfstep train model.onnx --data x.npy,y.npy -o trained.onnx
  halfstep evaluate trained.onnx --data x_test.npy,y_test.npy
  halfstep run trained.onnx --input x.npy -o out.npz
  halfstep convert trained.onnx -o half.onnx --precision fp16

'halfstep help COMMAND' describes the flags of a command.
The environment variable HALFSTEP_PRECISION sets the default precision, and
HALFSTEP_PLUGIN_PATH names folders with executor plug-ins.
Exit codes: 0 success, 1 failure of the work itself, 2 invalid call or input,
128 + the signal's number if a signal ended it (Ctrl-C: 130).)";

/// Versions of the libraries, and the available executors. Loads no plug-in, because the libraries of the GPU executor
/// take seconds to load.
std::string version_text() {
  std::string text = "halfstep " HALFSTEP_VERSION;
  for (const auto& [library, version] : library_versions()) text += fmt::format("\n{} {}", library, version);
  return text + fmt::format("\nexecutors: {}; 'halfstep devices' lists those available on this machine",
                            fmt::join(executor_names(), ", "));
}

/// Whether the command may compute, and not only read files.
bool computes(const CLI::App& app) {
  for (const char* command : {"help", "completion"})
    if (app.get_subcommand(command)->parsed()) return false;
  const CLI::App* convert = app.get_subcommand("convert");
  return !convert->parsed() || convert->count("--calibrate") + convert->count("--verify") > 0;
}

void add_commands(CLI::App& app, int& exit_code) {
  cli::add_train(app, exit_code);
  cli::add_evaluate(app, exit_code);
  cli::add_run(app, exit_code);
  cli::add_convert(app, exit_code);
  cli::add_inspect(app, exit_code);
  cli::add_profile(app, exit_code);
  cli::add_devices(app, exit_code);
  cli::add_bench_communication(app, exit_code);
  cli::add_check(app, exit_code);
  cli::add_completion(app);
  cli::add_help(app);
  cli::check_values(app);
}

/// Whether the call requests JSON, by a flag or by a configuration file.
bool wants_json(const CLI::App& app, const std::vector<std::string>& arguments) {
  for (const CLI::App* command : app.get_subcommands())
    if (const CLI::Option* json = command->get_option_no_throw("--json"); json && json->count() > 0)
      return json->as<bool>();
  return std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
}

/// Says what went wrong, on standard error, and with --json also as the document that standard output then lacks.
int fail(const Error& error, const std::vector<std::string>& arguments, bool json) {
  std::fflush(stdout);
  cli::let_first_rank_tell(arguments);
  cli::print_error(error);
  if (json && !cli::json_was_printed()) {
    cli::print_json({{"error", cli::error_json(error)}});
    std::fflush(stdout);
  }
  return error.kind() == Error::Kind::input ? kWrongInput : kFailed;
}

/// Runs the call; returns the exit code.
int run(CLI::App& app, int& exit_code, const std::vector<std::string>& arguments, char** argv) {
  try {
    if (arguments.empty()) throw CLI::CallForHelp();
    cli::check_dashes(app, arguments);
    cli::read_configs(app, arguments);
    app.parse(static_cast<int>(arguments.size()) + 1, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    const bool help = dynamic_cast<const CLI::CallForHelp*>(&asked) != nullptr;
    print_to(stdout, "{}", Raw{help ? app.help() : std::string(asked.what()) + "\n"});
  } catch (const CLI::ParseError& error) {
    throw cli::explain(app, error, arguments);
  }
  cli::check_output_written();
  return exit_code;
}

int run_program(int argc, char** argv) {
  // A file over the shell's size limit is then an error of write(), with its path, instead of a silent end of the
  // process.
  std::signal(SIGXFSZ, SIG_IGN);

  CLI::App app("halfstep trains ONNX models in mixed precision, and evaluates, runs and converts them.", "halfstep");
  int exit_code = 0;
  cli::use_manual_help(app);
  app.set_version_flag("--version", version_text, "prints the version, the libraries' versions and the executors");
  app.footer(kEpilogue);
  app.require_subcommand(1);
  // Before the command starts its work.
  app.parse_complete_callback([&app, argv] {
    if (computes(app)) cli::choose_openmp_waiting(argv);
  });
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    add_commands(app, exit_code);
    return run(app, exit_code, arguments, argv);
  } catch (const Error& error) {
    return fail(error, arguments, wants_json(app, arguments));
  } catch (const std::bad_alloc&) {
    return fail(Error(Error::Kind::failure, "enough memory", "none left", "a smaller batch needs less"), arguments,
                wants_json(app, arguments));
  } catch (const std::exception& error) {
    return fail(Error(Error::Kind::failure, "work without an error of a library", error.what(), ""), arguments,
                wants_json(app, arguments));
  }
}

}  // namespace

int main(int argc, char** argv) {
  cli::keep_standard_descriptors();
  try {
    return run_program(argc, argv);
  } catch (const std::exception&) {  // before the flags are read, or while an error is reported
    write_text(stderr, "halfstep: out of memory\n");
    return kFailed;
  }
}
