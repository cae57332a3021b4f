#include <exception>

#include <nanobind/stl/string.h>

#include "python/src/bindings.h"
#include <halfstep/base/error.h>

namespace halfstep::python {

void translate_errors() {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const Error& error) {
      const char* name = error.kind() == Error::Kind::input ? "InputError" : "Error";
      try {
        const nb::object type = nb::module_::import_("halfstep.errors").attr(name);
        const nb::object value = type(error.required(), error.found(), error.remedy());
        PyErr_SetObject(type.ptr(), value.ptr());
      } catch (nb::python_error& failed) {
        failed.restore();
      }
    }
  });
}

}  // namespace halfstep::python
