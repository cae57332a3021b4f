// halfstep: trains, evaluates, runs and converts ONNX models. Exit codes: 0 done, 1 the work failed, 2 the call or the
// input was wrong.
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/openmp_waiting.h"
#include "graph/error.h"

namespace {

using namespace halfstep;

constexpr int kFailed = 1;
constexpr int kWrongInput = 2;

int report(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);  // --help, --version
  const std::vector<CLI::App*> commands = app.get_subcommands();
  // CLI11 calls a word that is no subcommand a missing one.
  const std::vector<std::string> unknown = commands.empty() ? app.remaining() : std::vector<std::string>();
  cli::print_message(unknown.empty() ? error.what() : fmt::format("there is no subcommand '{}'", unknown.front()));
  fmt::print(stderr, "See: halfstep {}--help\n", commands.empty() ? "" : commands.front()->get_name() + " ");
  return kWrongInput;
}

}  // namespace

int main(int argc, char** argv) {
  // A file over the shell's size limit is then an error of write(), with its path, and no death without a word.
  std::signal(SIGXFSZ, SIG_IGN);

  CLI::App app("halfstep trains ONNX models in mixed precision.", "halfstep");
  app.set_version_flag("--version", HALFSTEP_VERSION);
  app.require_subcommand(1);
  // Before the subcommand does anything, and only when there is one to run that may compute.
  app.parse_complete_callback([&app, argv] {
    const CLI::App* convert = app.get_subcommand("convert");
    const bool rewrites_only = convert->parsed() && convert->count("--calibrate") + convert->count("--verify") == 0;
    if (!rewrites_only) cli::choose_openmp_waiting(argv);
  });
  int exit_code = 0;
  cli::add_train(app, exit_code);
  cli::add_evaluate(app, exit_code);
  cli::add_run(app, exit_code);
  cli::add_convert(app, exit_code);
  cli::add_inspect(app, exit_code);
  cli::add_devices(app, exit_code);
  cli::add_check(app, exit_code);

  try {
    app.parse(argc, argv);
    if (std::fflush(stdout) != 0) throw_failure("a standard output that takes what is printed", "it does not", "");
    return exit_code;
  } catch (const CLI::ParseError& error) {
    return report(app, error);
  } catch (const Error& error) {
    std::fflush(stdout);
    cli::print_message(error.what());
    return error.kind() == Error::Kind::input ? kWrongInput : kFailed;
  } catch (const std::bad_alloc&) {
    cli::print_message("out of memory; a smaller --batch needs less");
    return kFailed;
  } catch (const std::exception& error) {
    cli::print_message(error.what());
    return kFailed;
  }
}
