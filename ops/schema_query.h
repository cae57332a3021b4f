// Information in the operators' schemas besides types and shapes of results.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// Whether the operators' schemas allow the types of their operands in `graph`.
bool schema_takes(const Graph& graph);

/// The opsets, up to the newest supported one, that introduced a version of the operator.
std::set<std::int64_t> schema_versions(std::string_view name, std::string_view domain);

}  // namespace halfstep
