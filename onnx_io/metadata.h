// halfstep's metadata in a model, by which a written Graph can be read back unchanged.
#pragma once

#include <array>
#include <string_view>

#include <halfstep/graph/graph.h>

namespace halfstep {

inline constexpr std::string_view kMetadataPrefix = "ai.halfstep.";
/// Key prefixes, followed by the name of a state. Values: its role; the names of its next value, its gradient and its
/// source.
inline constexpr std::string_view kStateKey = "ai.halfstep.state.";
inline constexpr std::string_view kNextKey = "ai.halfstep.next.";
inline constexpr std::string_view kGradientKey = "ai.halfstep.gradient.";
inline constexpr std::string_view kSourceKey = "ai.halfstep.source.";
/// Number of the graph's outputs before those that are only there for the states.
inline constexpr std::string_view kOutputCountKey = "ai.halfstep.outputs";

inline constexpr std::array kStateRoles = {StateRole::parameter,  StateRole::statistic,   StateRole::optimizer,
                                           StateRole::loss_scale, StateRole::accumulator, StateRole::random,
                                           StateRole::residual,   StateRole::copy};

}  // namespace halfstep
