// Types of a model's inputs and outputs, and checks of tensors against them.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/prepared_model.h>

namespace HALFSTEP_API halfstep {

std::vector<TensorInfo> types_of(const Graph& graph, const std::vector<ValueId>& ids);

/// The inputs of a model. If it was exported for one batch size but supports others, the batch is unknown.
std::vector<TensorInfo> inputs_of(const PreparedModel& model);

/// Throws Error(input) unless each of `given` is one of `wanted` by name, and each of those is given unless `partly`;
/// `what` is the name for one of them: "an input of the model".
void check_names(const NamedTensors& given, std::span<const TensorInfo> wanted, const std::string& what,
                 bool partly = false);

/// The tensor converted to the element type of that type. Throws Error(input) if its shape differs.
Tensor fitted(const NamedTensors& given, const TensorInfo& wanted);

/// Copies elements to the memory of a program. Throws Error(failure) if the sizes differ.
void copy_into(Tensor& to, const Tensor& from);

}  // namespace halfstep
