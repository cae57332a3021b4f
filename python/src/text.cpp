#include "python/src/bindings.h"

namespace halfstep::python {
namespace {

nb::object checked(PyObject* object) {
  if (!object) throw nb::python_error();
  return nb::steal(object);
}

}  // namespace

nb::str text(std::string_view utf8) {
  return nb::borrow<nb::str>(
      checked(PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), "surrogateescape")));
}

std::string utf8_of(nb::handle str) {
  PyObject* encoded = PyUnicode_AsEncodedString(str.ptr(), "utf-8", "surrogateescape");
  if (!encoded) {  // surrogates that stand for no byte
    PyErr_Clear();
    encoded = PyUnicode_AsEncodedString(str.ptr(), "utf-8", "backslashreplace");
  }
  const auto bytes = nb::borrow<nb::bytes>(checked(encoded));
  return {bytes.c_str(), bytes.size()};
}

}  // namespace halfstep::python
