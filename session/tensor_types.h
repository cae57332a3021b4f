// What a model takes and gives, and whether tensors are that.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>

namespace HALFSTEP_API halfstep {

std::vector<TensorInfo> types_of(const Graph& graph, const std::vector<ValueId>& ids);

/// The inputs of a model. Where it was exported for one batch size and computes for others as well, the batch is open.
std::vector<TensorInfo> inputs_of(const Graph& model);

/// Throws Error(input) unless each of `given` is one of `wanted` by its name, and each of those is there unless
/// `partly`; `what` calls one of them: "an input of the model".
void check_names(const NamedTensors& given, std::span<const TensorInfo> wanted, const std::string& what,
                 bool partly = false);

/// The tensor of that type in the type's element type. Throws Error(input) where its shape is another one.
Tensor fitted(const NamedTensors& given, const TensorInfo& wanted);

/// Copies elements to memory of a program. Throws Error(failure) where the sizes differ.
void copy_into(Tensor& to, const Tensor& from);

}  // namespace halfstep
