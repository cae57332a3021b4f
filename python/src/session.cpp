#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include "python/src/bindings.h"
#include "python/src/guarded.h"
#include "python/src/model.h"
#include "python/src/tensors.h"
#include <halfstep/executors/registry.h>
#include <halfstep/session/session.h>

namespace halfstep::python {
namespace {

struct SessionOnExecutor {
  std::unique_ptr<Executor> executor;
  Session session;
};
using GuardedSession = Guarded<SessionOnExecutor>;

std::unique_ptr<SessionOnExecutor> make(const LoadedModel& model, const std::string& executor,
                                        const std::string& precision, const ExecutorOptions& options,
                                        const std::map<std::string, std::int64_t>& batch_axes, std::size_t programs) {
  const Precision parsed = parse_precision(precision);
  const nb::gil_scoped_release unlocked;
  std::unique_ptr<Executor> made = make_executor(executor, options);
  warn_without_effect(options, *made);
  Session session(model.graph, *made, {.precision = parsed, .batch_axes = batch_axes, .programs = programs});
  return std::make_unique<SessionOnExecutor>(SessionOnExecutor{std::move(made), std::move(session)});
}

}  // namespace

void bind_session(nb::module_& m) {
  nb::class_<GuardedSession>(m, "Session", "A model for inference.")
      .def(
          "__init__",
          [](GuardedSession* self, const LoadedModel& model, const std::string& executor, const std::string& precision,
             int threads, const std::string& fp32_math, const std::string& tune, bool deterministic,
             const std::string& device, const std::map<std::string, std::int64_t>& batch_axes, std::size_t programs) {
            const ExecutorOptions options{.threads = threads,
                                          .fp32_math = parse_fp32_math(fp32_math),
                                          .tuning = parse_tuning(tune),
                                          .deterministic = deterministic,
                                          .device = device};
            new (self) GuardedSession("session", make(model, executor, precision, options, batch_axes, programs));
          },
          "model"_a, nb::kw_only(), "executor"_a, "precision"_a, "threads"_a, "fp32_math"_a, "tune"_a,
          "deterministic"_a, "device"_a, "batch_axes"_a, "programs"_a)
      .def_prop_ro("inputs", [](GuardedSession& self) { return infos_from(self.use()->session.inputs()); })
      .def_prop_ro("outputs", [](GuardedSession& self) { return infos_from(self.use()->session.outputs()); })
      .def_prop_ro("precision",
                   [](GuardedSession& self) { return text(precision_name(self.use()->session.precision())); })
      .def_prop_ro("executor", [](GuardedSession& self) { return text(self.use()->executor->name()); })
      .def(
          "run",
          [](GuardedSession& self, nb::handle inputs) {
            const GuardedSession::Use use = self.use();
            const NamedTensors given = tensors_from(inputs, "inputs");
            return arrays_from(unlocked([&] { return use->session.run(given); }));
          },
          "inputs"_a)
      .def(
          "plan",
          [](GuardedSession& self, nb::handle inputs) {
            const GuardedSession::Use use = self.use();
            const NamedTensors given = tensors_from(inputs, "inputs");
            return describe(unlocked([&]() -> const Plan& { return use->session.plan(given); }));
          },
          "inputs"_a)
      .def(
          "profile",
          [](GuardedSession& self, nb::handle inputs, int steps) {
            const GuardedSession::Use use = self.use();
            const NamedTensors given = tensors_from(inputs, "inputs");
            const nb::gil_scoped_release unlocked;
            const Profile profile = use->session.profile(given, {.steps = steps});
            return std::pair(profile_json(profile), trace_json(profile));
          },
          "inputs"_a, "steps"_a, "Profiles a run: the JSON text of halfstep.profile, and the trace.")
      .def("close", &GuardedSession::close)
      .def_prop_ro("closed", &GuardedSession::is_closed);
}

}  // namespace halfstep::python
