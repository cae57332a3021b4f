// The parts of the extension, one per file.
#pragma once

#include <string>
#include <string_view>

#include <nanobind/nanobind.h>

#include <halfstep/executors/executor.h>
#include <halfstep/executors/registry.h>

namespace halfstep::python {

namespace nb = nanobind;
using namespace nb::literals;

/// Text in both directions. Bytes that are not UTF-8, of which names of files may have some, are surrogates in Python,
/// as os.fsdecode makes them.
nb::str text(std::string_view utf8);
std::string utf8_of(nb::handle str);

/// Calls `call` without the GIL.
decltype(auto) unlocked(const auto& call) {
  const nb::gil_scoped_release released;
  return call();
}

/// "check --class-axis" as "check class_axis": the library names flags as the command line does.
std::string with_arguments(std::string_view words);

/// Translates Error to halfstep.InputError or halfstep.Error.
void translate_errors();

void bind_tables(nb::module_& m);
void bind_options(nb::module_& m);
void bind_model(nb::module_& m);
void bind_session(nb::module_& m);
void bind_metrics(nb::module_& m);
void bind_training_step(nb::module_& m);
void bind_rows(nb::module_& m);
void bind_running(nb::module_& m);
void bind_conversion(nb::module_& m);
void bind_machine(nb::module_& m);
void bind_ranks(nb::module_& m);

/// A UserWarning where options have no effect on the executor. Throws where warnings are errors.
inline void warn_without_effect(const ExecutorOptions& options, const Executor& executor) {
  const std::string notice = without_effect(options, executor);
  const nb::gil_scoped_acquire locked;
  if (!notice.empty() && PyErr_WarnEx(PyExc_UserWarning, notice.c_str(), 2) < 0) throw nb::python_error();
}

}  // namespace halfstep::python
