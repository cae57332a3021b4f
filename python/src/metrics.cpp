#include "python/src/metrics.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include <nanobind/stl/string.h>

#include "python/src/tensors.h"

namespace halfstep::python {
namespace {

nb::object value_of(const Metrics& metrics, std::size_t i) {
  const ClassTable* table = metrics.table(i);
  if (!table) return nb::cast(metrics.value(i));
  const std::int64_t classes = table->classes;
  return array_from(Tensor::of<std::int64_t>(table->counts, Shape{classes, classes == 0 ? 0 : classes + 1}));
}

}  // namespace

nb::dict values_of(const Metrics& metrics) {
  nb::dict values;
  for (std::size_t i = 0; i < metrics.size(); ++i) values[text(metrics.metric(i).name())] = value_of(metrics, i);
  return values;
}

void bind_metrics(nb::module_& m) {
  nb::class_<Metrics>(m, "Metrics", "Running values of metrics.")
      .def("values", &values_of,
           "Name → number; of a confusion matrix counts i64[classes, classes + 1], a row for each label, the last "
           "column for outputs that are NaN.")
      .def("reset", &Metrics::reset)
      .def("__len__", &Metrics::size);
  m.def(
      "check_metrics", [](const std::string& names) { parse_metrics(names); }, "names"_a);
}

}  // namespace halfstep::python
