// What ranks tell each other beside gradients: texts, and tensors by name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

/// The text of every rank. Collective, as all of these.
std::vector<std::string> gather(Communicator& ranks, const std::string& text);
/// The tensors of every rank, none of strings.
std::vector<NamedTensors> gather(Communicator& ranks, const NamedTensors& tensors);

/// Throws SharedError(input) on every rank unless all have the same values, naming the first key that differs, the
/// ranks and their values.
void require_same(Communicator& ranks, const std::map<std::string, std::string>& values);

}  // namespace halfstep
