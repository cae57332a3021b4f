// Gives readers of a shared tensor separate copies, in the source model.
#pragma once

#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/onnx_io/load.h>

namespace HALFSTEP_API halfstep {

/// The model in which each of these initializers and Constant nodes is read by one operand only: the first reader, in
/// the order of nodes, keeps it; the k-th reads an equal one named `NAME.k`. Readers are operands of the main graph's
/// nodes; an Identity, which already names a separate parameter, continues to read NAME. Saving knows the new names.
/// Throws Error(input) if a name is neither of these in the main graph.
LoadedModel untie(const LoadedModel& model, const std::vector<std::string>& names);

/// The same, in the message, for running statistics that a BatchNormalization shares with any other reader: exporters
/// write equal ones once. Of a model with functions, the calls are the readers. Whether there were any: then `inlined`
/// is out of date.
bool separate_statistics(SourceModel& source);

}  // namespace halfstep
