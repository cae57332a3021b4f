// Profiling: time per node of a step, compared with the limits of the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/executors/timed_program.h>
#include <halfstep/ops/cost.h>

namespace HALFSTEP_API halfstep {

/// Peak rates per second of a machine, measured through an executor and its threads.
struct MachinePeaks {
  std::map<DType, double> flops = {};  ///< of a large matrix product, by the type of its operands
  double bytes = 0;                    ///< read and written by the sum of two tensors that exceed the caches
  /// Relative excess of the median repetition over the best, maximum over all measurements. Above kBusy the machine was
  /// busy with other work, and the peaks may be too low.
  double spread = 0;
  static constexpr double kBusy = 0.15;

  /// Lower bound in seconds for this cost in that type: the maximum of arithmetic and memory time (the roofline). Less
  /// is possible if tensors are still in a cache.
  double least(const Cost& cost, DType computed) const;
};

/// Measures f32 and those half types that are in `types`; f32 represents all other types. Takes about a second.
MachinePeaks measure_peaks(Executor& executor, const std::set<DType>& types);

/// One entry of a program's plan, with times.
struct ProfileEntry {
  PlanEntry plan;
  EntryFacts facts;
  std::string scope = {};     ///< in the source model: "/encoder/layer.0"; empty if the node's name has none
  bool backward = false;      ///< belongs to the gradient of a node
  double best = 0, mean = 0;  ///< seconds in one step
  double share = 0;           ///< fraction of the sum of all best times; all shares sum to 1
  double least = 0;           ///< MachinePeaks::least
};

/// An all-reduce that overlapped with entries, in seconds from the start of an execution.
struct ExchangeTime {
  double start = 0, seconds = 0;
  std::size_t bytes = 0;
};

struct ProfileOptions {
  int steps = 10;  ///< timed steps, after some untimed ones
};

struct Profile {
  std::string executor;
  MachinePeaks peaks;
  double best = 0, mean = 0;                              ///< seconds of a whole step without timed entries
  double least = 0;                                       ///< sum over the entries
  std::vector<ProfileEntry> entries = {};                 ///< in execution order
  std::vector<std::vector<EntryTime>> executions = {};    ///< the steps whose entries were timed
  std::vector<std::vector<ExchangeTime>> exchanges = {};  ///< of each of those; empty for a single process
};

/// Profiles a program on the present contents of its inputs. Each step updates the states. Throws Error(failure) if
/// the executor does not report times.
Profile profile(Program& program, Executor& executor, const ProfileOptions& options = {});

/// Grouping of entries.
enum class ProfileBy : std::uint8_t { node, operators, scope };

struct ProfileRow {
  std::string name;                  ///< of the node, the operator or the scope; empty without one
  std::string op = {}, kernel = {};  ///< of a node
  std::int64_t entries = 0;          ///< number of entries in the group
  double best = 0, mean = 0, share = 0, least = 0;
  Cost cost = {};
};

/// Rows by decreasing time. Scopes are cut to their first `depth` parts: with 2, entries of
/// "/encoder/layer.0/attention" belong to "/encoder/layer.0"; 0: all parts.
std::vector<ProfileRow> rows_of(const Profile& profile, ProfileBy by, std::size_t depth = 0);

/// The parts of an exporter's node name except the last: "/encoder/layer.0" of "/encoder/layer.0/MatMul". A gradient
/// node ("/encoder/layer.0/MatMul.grad/Mul_7") is in the scope of its forward node.
std::string scope_of(std::string_view node);

/// The whole profile as a JSON object: see docs/json.md.
std::string profile_json(const Profile& profile);

/// The timed steps in the trace event format of Perfetto and chrome://tracing, with nested slices for steps, scopes
/// and nodes, and a second track of all-reduces.
std::string trace_json(const Profile& profile);

}  // namespace halfstep
