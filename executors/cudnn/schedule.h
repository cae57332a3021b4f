// Where each value lies and in which order things happen: pure functions of a graph and of who takes each node.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace halfstep::cudnn {

enum class Place {
  device,  ///< a kernel of the device
  host,    ///< the operator's reference kernel, on copies in host memory
  view,    ///< nothing runs: the output is the first input's memory
};

/// What is known of a node before memory is planned.
struct Placement {
  Place place = Place::host;
  std::size_t scratch_bytes = 0;
  std::vector<int> overwrites;  ///< see DeviceKernel
};

struct Step {
  enum class Kind {
    upload,    ///< `index` is a value: host memory to device memory
    download,  ///< `index` is a value: device memory to host memory
    launch,    ///< `index` is a node: its kernel
    call,      ///< `index` is a node: its reference kernel
    stage,     ///< `index` is a state: its next value, which lies in another state's memory, to a place of its own
    move,      ///< `index` is a state: its next value, from where it lies (or was staged) into the state's memory
  };
  Kind kind;
  std::int32_t index;
  bool operator==(const Step&) const = default;
};

/// Device memory of a value.
struct Location {
  enum class Kind {
    none,      ///< lives on the host alone
    arena,     ///< `offset` bytes into the arena
    state,     ///< `index` is the state
    constant,  ///< `index` is the value
  };
  Kind kind = Kind::none;
  std::int32_t index = -1;
  std::size_t offset = 0;
};

struct Schedule {
  std::vector<Step> steps;
  std::vector<Location> values;              ///< one per value of the graph; views resolved
  std::vector<bool> on_host;                 ///< per value: needs a tensor in host memory
  std::vector<std::size_t> scratch_offsets;  ///< per node, into the arena
  std::vector<std::size_t> stage_offsets;    ///< per state, into the arena
  std::vector<bool> in_place;                ///< per state: its next value is written where it lies
  std::size_t arena_bytes = 0;
  bool all_on_device = false;  ///< no step calls a reference kernel
};

/// `placements` has one entry per node; a view of a value that only the host holds must be placed on the host
/// (`settle_views` does that). All shapes of values on the device are static.
Schedule make_schedule(const Graph& graph, const std::vector<Placement>& placements);

/// Moves views of values that reference kernels make to the host.
void settle_views(const Graph& graph, std::vector<Placement>& placements);

}  // namespace halfstep::cudnn
