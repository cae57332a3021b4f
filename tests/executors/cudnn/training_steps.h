// The models whose training steps are looked at as a whole: those of models/zoo, and kinds of network it has none of.
#pragma once

#include <string>
#include <vector>

#include <halfstep/graph/capabilities.h>
#include <halfstep/graph/graph.h>

namespace halfstep::cudnn {

/// Names of models, in order: folders of models/zoo, "unet" (transposed convolutions), "unet-resize" (bilinear),
/// "written-out" (operators that become others), "normalized" (of groups and instances, with noise).
std::vector<std::string> step_names();

/// A training step on the batch that the model comes with, by the loss and the optimizer that it comes with; f16 has a
/// loss scale. Fused as the capabilities say.
Graph training_step(const std::string& name, DType precision, const Capabilities& capabilities);

}  // namespace halfstep::cudnn
