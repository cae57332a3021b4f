// Where the time of a step goes, and how far that is from what the machine can do.
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

/// What a machine does at most in a second, measured through an executor and its threads.
struct MachinePeaks {
  std::map<DType, double> flops = {};  ///< of a large product of matrices, by the type of its operands
  double bytes = 0;                    ///< read and written by the sum of two tensors that no cache holds
  /// How much longer than the best the median of the repetitions took, of the measurement where that is the most:
  /// above kBusy something else ran meanwhile, and the peaks may be too low.
  double spread = 0;
  static constexpr double kBusy = 0.15;

  /// The least seconds for this in that type: by arithmetic or by memory, whichever takes longer (the roofline). Where
  /// tensors are still in a cache less is possible.
  double least(const Cost& cost, DType computed) const;
};

/// Takes about a second. Of f32, and of those of the half types that are asked for; f32 stands for all others.
MachinePeaks measure_peaks(Executor& executor, const std::set<DType>& types);

/// One entry of a program's plan, with times.
struct ProfileEntry {
  PlanEntry plan;
  EntryFacts facts;
  std::string scope = {};     ///< of the source model, "/encoder/layer.0"; empty where its node's name has none
  bool backward = false;      ///< of a node's gradient
  double best = 0, mean = 0;  ///< seconds in one step
  double share = 0;           ///< of the sum of all entries' best times; all shares sum to 1
  double least = 0;           ///< MachinePeaks::least
};

struct ProfileOptions {
  int steps = 10;  ///< that are timed, after some that are not
};

struct Profile {
  std::string executor;
  MachinePeaks peaks;
  double best = 0, mean = 0;                            ///< seconds of a whole step, which nothing interrupts
  double least = 0;                                     ///< the sum of those of the entries
  std::vector<ProfileEntry> entries = {};               ///< in the order they run
  std::vector<std::vector<EntryTime>> executions = {};  ///< each of the steps whose entries were timed
};

/// Of a program whose inputs hold what it is to run on. States move on with each step. Throws Error(failure) where the
/// executor cannot tell times.
Profile profile(Program& program, Executor& executor, const ProfileOptions& options = {});

/// What entries are added up by.
enum class ProfileBy : std::uint8_t { node, operators, scope };

struct ProfileRow {
  std::string name;                  ///< of the node, the operator or the scope; empty without one
  std::string op = {}, kernel = {};  ///< of a node
  std::int64_t entries = 0;          ///< that are added up
  double best = 0, mean = 0, share = 0, least = 0;
  Cost cost = {};
};

/// The longest first. Of scopes the first `depth` parts: entries of "/encoder/layer.0/attention" count to
/// "/encoder/layer.0" with 2; 0: all parts.
std::vector<ProfileRow> rows_of(const Profile& profile, ProfileBy by, std::size_t depth = 0);

/// The parts of an exporter's node name before its last: "/encoder/layer.0" of "/encoder/layer.0/MatMul". A gradient's
/// node ("/encoder/layer.0/MatMul.grad/Mul_7") is in the scope of the node it belongs to.
std::string scope_of(std::string_view node);

/// All of it as a JSON object: see docs/json.md.
std::string profile_json(const Profile& profile);

/// The timed steps in the trace event format that Perfetto and chrome://tracing open: a slice for each step, in it for
/// each scope, in that for each node.
std::string trace_json(const Profile& profile);

}  // namespace halfstep
