#include "executors/cudnn/schedule.h"

#include <algorithm>

#include "executors/plan/memory.h"

namespace halfstep::cudnn {
namespace {

/// Who reads a piece of memory, and when. Node i runs at time i + 1.
struct Read {
  std::int32_t time;
  std::int32_t node;   ///< -1: a graph output or a state
  std::int32_t input;  ///< of the node
};

std::size_t bytes_of_value(const Value& v) { return bytes_of(v.dtype, static_cast<std::size_t>(v.shape.count())); }

class Scheduler {
 public:
  Scheduler(const Graph& graph, const std::vector<Placement>& placements)
      : graph_(graph),
        placements_(placements),
        nodes_(static_cast<std::int32_t>(graph.nodes.size())),
        root_(graph.values.size()),
        made_by_(graph.producers()),
        reads_(graph.values.size()),
        on_device_(graph.values.size(), false),
        downloaded_(graph.values.size(), false) {
    s_.values.resize(graph.values.size());
    s_.on_host.assign(graph.values.size(), false);
    s_.scratch_offsets.assign(graph.nodes.size(), 0);
    s_.stage_offsets.assign(graph.states.size(), 0);
    s_.in_place.assign(graph.states.size(), false);
    s_.all_on_device = std::ranges::none_of(placements, [](const Placement& p) { return p.place == Place::host; });
  }

  Schedule make() {
    resolve_views();
    collect_reads();
    place_states();
    plan_arena();
    write_steps();
    return std::move(s_);
  }

 private:
  // Times behind the last node.
  std::int32_t outputs_time() const { return nodes_ + 1; }
  std::int32_t stage_time() const { return nodes_ + 2; }
  std::int32_t move_time() const { return nodes_ + 3; }

  ValueId root(ValueId v) const { return root_[static_cast<std::size_t>(v)]; }
  Location& location(ValueId v) { return s_.values[static_cast<std::size_t>(v)]; }
  std::int32_t maker(ValueId v) const { return made_by_[static_cast<std::size_t>(v)]; }
  Place place(std::int32_t node) const { return placements_[static_cast<std::size_t>(node)].place; }
  bool is_made_by(ValueId v, Place p) const { return maker(v) >= 0 && place(maker(v)) == p; }
  /// Whether the host has a value without asking the device.
  bool is_host_value(ValueId v) const {
    return graph_[v].is_constant() || graph_.is_input(v) || is_made_by(v, Place::host);
  }

  void resolve_views() {
    for (std::size_t v = 0; v < root_.size(); ++v) root_[v] = static_cast<ValueId>(v);
    for (std::int32_t n = 0; n < nodes_; ++n) {
      const Node& node = graph_.nodes[static_cast<std::size_t>(n)];
      if (place(n) == Place::view) root_[static_cast<std::size_t>(node.outputs[0])] = root(node.inputs[0]);
    }
  }

  void read_on_device(ValueId v, const Read& read) {
    reads_[static_cast<std::size_t>(root(v))].push_back(read);
    on_device_[static_cast<std::size_t>(root(v))] = true;
  }
  void read_on_host(ValueId v, const Read& read) {
    if (graph_[v].is_constant()) return;
    s_.on_host[static_cast<std::size_t>(v)] = true;
    if (!is_host_value(v)) read_on_device(v, read);
  }

  void collect_reads() {
    for (ValueId v : graph_.inputs) s_.on_host[static_cast<std::size_t>(v)] = true;
    for (std::int32_t n = 0; n < nodes_; ++n) {
      const Node& node = graph_.nodes[static_cast<std::size_t>(n)];
      if (place(n) == Place::view) continue;
      const bool device = place(n) == Place::device;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        const Read read{n + 1, n, static_cast<std::int32_t>(i)};
        if (node.inputs[i] == kNoValue) continue;
        device ? read_on_device(node.inputs[i], read) : read_on_host(node.inputs[i], read);
      }
      for (ValueId v : node.outputs) {
        if (v == kNoValue) continue;
        if (device)
          on_device_[static_cast<std::size_t>(v)] = true;
        else
          s_.on_host[static_cast<std::size_t>(v)] = true;
      }
    }
    for (ValueId v : graph_.outputs) read_on_host(v, {outputs_time(), -1, -1});
    for (const State& state : graph_.states) {
      on_device_[static_cast<std::size_t>(state.value)] = true;
      if (state.next != kNoValue && root(state.next) != state.value) read_on_device(state.next, {move_time(), -1, -1});
    }
  }

  /// Whether the state's next value can be written where the state lies: its kernel runs after every other reader of
  /// the present value, and reads that only as an operand it may overwrite.
  bool can_update_in_place(const State& state) const {
    const ValueId next = root(state.next);
    if (!is_made_by(next, Place::device)) return false;
    const auto same_next = std::ranges::count_if(
        graph_.states, [&](const State& other) { return other.next != kNoValue && root(other.next) == next; });
    if (same_next != 1) return false;
    const std::int32_t n = maker(next);
    const Node& node = graph_.nodes[static_cast<std::size_t>(n)];
    const auto output = static_cast<std::size_t>(std::ranges::find(node.outputs, next) - node.outputs.begin());
    const std::vector<int>& allowed = placements_[static_cast<std::size_t>(n)].overwrites;
    const int overwritten = output < allowed.size() ? allowed[output] : -1;
    return std::ranges::all_of(reads_[static_cast<std::size_t>(state.value)], [&](const Read& r) {
      return r.time < n + 1 || (r.node == n && r.input == overwritten);
    });
  }

  void place_states() {
    for (std::size_t s = 0; s < graph_.states.size(); ++s)
      location(graph_.states[s].value) = {Location::Kind::state, static_cast<std::int32_t>(s), 0};
    for (std::size_t s = 0; s < graph_.states.size(); ++s) {
      const State& state = graph_.states[s];
      if (state.next == kNoValue || root(state.next) == state.value || !can_update_in_place(state)) continue;
      s_.in_place[s] = true;
      location(root(state.next)) = {Location::Kind::state, static_cast<std::int32_t>(s), 0};
    }
  }

  /// A next value that lies in the memory of a state, which may be moved itself.
  bool needs_stage(std::size_t s) const {
    const State& state = graph_.states[s];
    if (state.next == kNoValue || s_.in_place[s] || root(state.next) == state.value) return false;
    return s_.values[static_cast<std::size_t>(root(state.next))].kind == Location::Kind::state;
  }

  void plan_arena() {
    std::vector<Lifetime> lifetimes;
    std::vector<std::size_t*> offsets;  // where each lifetime's offset goes
    const auto add = [&](std::size_t bytes, std::int32_t first, std::int32_t last, std::size_t* offset) {
      lifetimes.push_back({bytes, first, last});
      offsets.push_back(offset);
    };
    for (std::size_t v = 0; v < root_.size(); ++v) {
      Location& where = s_.values[v];
      if (root_[v] != static_cast<ValueId>(v) || !on_device_[v] || where.kind != Location::Kind::none) continue;
      if (graph_.values[v].is_constant()) {
        where = {Location::Kind::constant, static_cast<std::int32_t>(v), 0};
        continue;
      }
      where.kind = Location::Kind::arena;
      const std::int32_t first = made_by_[v] + 1;  // 0 for inputs
      std::int32_t last = first;
      for (const Read& r : reads_[v]) last = std::max(last, r.time);
      add(bytes_of_value(graph_.values[v]), first, last, &where.offset);
    }
    for (std::int32_t n = 0; n < nodes_; ++n)
      add(placements_[static_cast<std::size_t>(n)].scratch_bytes, n + 1, n + 1,
          &s_.scratch_offsets[static_cast<std::size_t>(n)]);
    for (std::size_t s = 0; s < graph_.states.size(); ++s)
      if (needs_stage(s))
        add(bytes_of_value(graph_[graph_.states[s].value]), stage_time(), move_time(), &s_.stage_offsets[s]);

    const Arena arena = plan_memory(lifetimes);
    for (std::size_t i = 0; i < offsets.size(); ++i) *offsets[i] = arena.offsets[i];
    s_.arena_bytes = arena.bytes;
    for (std::size_t v = 0; v < root_.size(); ++v) s_.values[v] = s_.values[static_cast<std::size_t>(root_[v])];
  }

  void step(Step::Kind kind, std::size_t index) { s_.steps.push_back({kind, static_cast<std::int32_t>(index)}); }
  void upload(ValueId v) {
    if (on_device_[static_cast<std::size_t>(v)]) step(Step::Kind::upload, static_cast<std::size_t>(v));
  }
  /// Once a value: none but a state's changes, and a state is read before it is updated.
  void download(ValueId v) {
    if (v == kNoValue || is_host_value(v) || downloaded_[static_cast<std::size_t>(v)]) return;
    downloaded_[static_cast<std::size_t>(v)] = true;
    step(Step::Kind::download, static_cast<std::size_t>(v));
  }

  void write_steps() {
    for (ValueId v : graph_.inputs) upload(v);
    for (std::int32_t n = 0; n < nodes_; ++n) {
      const Node& node = graph_.nodes[static_cast<std::size_t>(n)];
      if (place(n) == Place::device) step(Step::Kind::launch, static_cast<std::size_t>(n));
      if (place(n) != Place::host) continue;
      for (ValueId v : node.inputs) download(v);
      step(Step::Kind::call, static_cast<std::size_t>(n));
      for (ValueId v : node.outputs)
        if (v != kNoValue) upload(v);
    }
    for (ValueId v : graph_.outputs) download(v);
    for (std::size_t s = 0; s < graph_.states.size(); ++s)
      if (needs_stage(s)) step(Step::Kind::stage, s);
    for (std::size_t s = 0; s < graph_.states.size(); ++s) {
      const State& state = graph_.states[s];
      if (state.next != kNoValue && !s_.in_place[s] && root(state.next) != state.value) step(Step::Kind::move, s);
    }
  }

  const Graph& graph_;
  const std::vector<Placement>& placements_;
  const std::int32_t nodes_;
  std::vector<ValueId> root_;  // the value whose memory a value is
  std::vector<std::int32_t> made_by_;
  std::vector<std::vector<Read>> reads_;  // of device memory, by root
  std::vector<bool> on_device_;           // by root
  std::vector<bool> downloaded_;
  Schedule s_;
};

}  // namespace

Schedule make_schedule(const Graph& graph, const std::vector<Placement>& placements) {
  return Scheduler(graph, placements).make();
}

void settle_views(const Graph& graph, std::vector<Placement>& placements) {
  std::vector<bool> made_on_host(graph.values.size(), false);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (placements[n].place == Place::view && made_on_host[static_cast<std::size_t>(node.inputs[0])])
      placements[n].place = Place::host;
    if (placements[n].place != Place::host) continue;
    for (ValueId v : node.outputs)
      if (v != kNoValue) made_on_host[static_cast<std::size_t>(v)] = true;
  }
}

}  // namespace halfstep::cudnn
