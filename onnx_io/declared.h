// Metadata of exporters about the origin of a model.
#pragma once

#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/exporter.h>

namespace HALFSTEP_API halfstep {

class SourceModel;

/// The parameters of the original module according to the exporter, by their names there: from the graph signature that
/// torch.onnx's newer exporter stores in the metadata. Empty if there is none.
std::vector<std::string> declared_parameters(const SourceModel& source);

/// By the name of the producer in the file.
Exporter exporter_of(const SourceModel& source);

}  // namespace halfstep
