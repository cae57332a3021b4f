#include "python/src/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <nanobind/stl/string.h>

#include "python/src/tensors.h"

namespace halfstep::python {
namespace {

nb::object value_of(const Metrics& metrics, std::size_t i) {
  const ClassTable* table = metrics.table(i);
  if (!table) return nb::cast(metrics.value(i));
  const std::int64_t classes = table->classes;
  const Shape shape{classes, classes == 0 ? 0 : classes + 1};
  const auto is_whole = [](double count) { return std::floor(count) == count && count < 0x1p53; };
  if (!std::ranges::all_of(table->counts, is_whole)) return array_from(Tensor::of<double>(table->counts, shape));
  return array_from(
      Tensor::of<std::int64_t>(std::vector<std::int64_t>(table->counts.begin(), table->counts.end()), shape));
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
           "Name → number; for a confusion matrix counts i64[classes, classes + 1], or sums of weights in f64: a row "
           "per label, the last column for outputs that are NaN.")
      .def("reset", &Metrics::reset)
      .def("__len__", &Metrics::size);
  m.def(
      "check_metrics", [](const std::string& names) { parse_metrics(names); }, "names"_a);
}

}  // namespace halfstep::python
