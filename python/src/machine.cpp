// Executors of this machine, and their checks.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "python/src/bindings.h"
#include "python/src/tensors.h"
#include <halfstep/base/error.h>
#include <halfstep/conformance/checks.h>
#include <halfstep/executors/registry.h>
#include <halfstep/graph/precision.h>

namespace halfstep::python {
namespace {

nb::list texts(const std::vector<std::string>& all) {
  nb::list result;
  for (const std::string& each : all) result.append(text(each));
  return result;
}

nb::dict describe(const DeviceStatus& device) {
  nb::dict result;
  result["id"] = text(device.id);
  result["uuid"] = text(device.uuid);
  result["device"] = text(device.name);
  result["features"] = texts(device.features);
  result["memory_bytes"] = device.memory;
  result["available"] = device.reason.empty();
  if (!device.reason.empty()) result["reason"] = text(device.reason);
  return result;
}

nb::dict describe(const ExecutorStatus& status) {
  nb::dict result;
  result["name"] = text(status.name);
  result["available"] = status.available;
  if (!status.devices.empty()) {
    nb::list devices;
    for (const DeviceStatus& device : status.devices) devices.append(describe(device));
    result["devices"] = devices;
  }
  if (!status.available) {
    result["reason"] = text(status.reason);
    return result;
  }
  const Capabilities& found = status.capabilities;
  result["device"] = text(found.device);
  result["features"] = texts(found.features);
  result["memory_bytes"] = found.memory;
  nb::dict native;
  for (const auto& [op_class, dtype] : found.native) {
    const nb::str name = text(name_of(op_class));
    if (!native.contains(name)) native[name] = nb::list();
    nb::cast<nb::list>(native[name]).append(text(name_of(dtype)));
  }
  result["native"] = native;
  result["auto_precision"] = text(precision_name(found.auto_precision));
  result["auto_reason"] = text(found.auto_reason);
  return result;
}

nb::dict devices() {
  nb::list executors;
  nb::object automatic = nb::none();
  for (const ExecutorStatus& status : executor_statuses()) {
    if (status.available && automatic.is_none()) automatic = text(status.name);
    executors.append(describe(status));
  }
  nb::dict result;
  result["auto"] = automatic;
  result["executors"] = executors;
  return result;
}

nb::dict describe_check(const CheckReport& report) {
  nb::dict result;
  result["op"] = text(report.op);
  result["case"] = text(report.case_name);
  result["kind"] = text(name_of(report.kind));
  result["type"] = report.dtype == DType::undefined ? nb::object(nb::none()) : text(name_of(report.dtype));
  result["result"] = text(name_of(report.result));
  result["message"] = text(report.message);
  result["kernels"] = text(report.kernels);
  return result;
}

nb::list check(const std::string& executor_name, const std::string& device, const std::string& op,
               const std::string& case_name, const std::optional<std::string>& kind,
               const std::optional<std::string>& dtype, std::size_t random, std::uint64_t seed) {
  CheckSelection selection{.op = op, .case_name = case_name, .random = random, .seed = seed};
  if (kind) selection.kind = parse_check_kind(*kind);
  if (dtype) {
    selection.dtype = dtype_from_name(*dtype);
    if (*selection.dtype == DType::undefined)
      throw_input_error("an element type: f32, f16, bf16, f64", "'" + *dtype + "'", "");
  }
  const std::unique_ptr<Executor> executor = make_executor(executor_name, {.device = device});
  const std::vector<Check> checks = list_checks(selection);
  if (checks.empty()) throw_input_error("checks to run", "none that match op, case and kind", "");
  nb::list reports;
  for (const Check& one : checks) {
    std::optional<CheckReport> report;
    {
      const nb::gil_scoped_release unlocked;
      report = one.run(*executor);
    }
    reports.append(describe_check(*report));
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
  }
  return reports;
}

}  // namespace

void bind_machine(nb::module_& m) {
  m.def("devices", &devices);
  m.def("check", &check, nb::kw_only(), "executor"_a, "device"_a, "op"_a, "case"_a, "kind"_a.none(), "dtype"_a.none(),
        "random"_a, "seed"_a);
}

}  // namespace halfstep::python
