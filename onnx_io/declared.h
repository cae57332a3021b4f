// What exporters write into a model about where it came from.
#pragma once

#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/exporter.h>

namespace HALFSTEP_API halfstep {

class SourceModel;

/// The parameters that the exporter says the module had, by their names there: from the graph signature that
/// torch.onnx's newer exporter keeps in the metadata. Empty when there is none.
std::vector<std::string> declared_parameters(const SourceModel& source);

/// By the producer's name in the file.
Exporter exporter_of(const SourceModel& source);

}  // namespace halfstep
