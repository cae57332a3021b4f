// What each file of the extension adds to it.
#pragma once

#include <nanobind/nanobind.h>

namespace halfstep::python {

namespace nb = nanobind;
using namespace nb::literals;

/// Error becomes halfstep.InputError or halfstep.Error.
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

}  // namespace halfstep::python
