// The ranks of a launcher.
#include <string>

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include "python/src/bindings.h"
#include "python/src/training_step.h"
#include "training/over_ranks.h"
#include <halfstep/distributed/communicator.h>
#include <halfstep/distributed/launcher.h>
#include <halfstep/distributed/registry.h>

namespace halfstep::python {

void bind_ranks(nb::module_& m) {
  nb::class_<Communicator>(m, "Ranks", "The processes that train together.")
      .def_prop_ro("rank", &Communicator::rank, "The number of this process, from 0 to size - 1.")
      .def_prop_ro("size", &Communicator::size)
      .def_prop_ro("name", [](const Communicator& ranks) { return std::string(ranks.name()); })
      .def(
          "barrier", [](Communicator& ranks) { unlocked([&] { ranks.barrier(); }); },
          "Returns when all ranks have called it.")
      .def(
          "any", [](Communicator& ranks, bool holds) { return unlocked([&] { return any_of(&ranks, holds); }); },
          "holds"_a, "Whether any rank says so. All ranks call it.")
      .def(
          "abort", [](Communicator& ranks, int code) { unlocked([&] { ranks.abort(code); }); }, "code"_a = 1,
          "Ends the processes of all ranks.")
      .def("__repr__", [](const Communicator& ranks) {
        return nb::str("Ranks(rank={}, size={}, name='{}')")
            .attr("format")(ranks.rank(), ranks.size(), std::string(ranks.name()));
      });
  m.def(
      "open_ranks",
      [](const std::string& name, const std::string& device, double timeout, double heartbeat) {
        CommunicatorOptions options = with_limits(timeout, heartbeat);
        options.device = device;
        return unlocked([&] { return open_communicator(name, options); });
      },
      "name"_a, "device"_a, "timeout"_a, "heartbeat"_a);
  m.def("launch", [] {
    const auto launch = find_launch();
    return launch ? nb::make_tuple(launch->rank, launch->size) : nb::make_tuple(0, 1);
  });
}

}  // namespace halfstep::python
