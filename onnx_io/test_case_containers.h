// ONNX test cases with sequences and optional values, as cases over tensors.
#pragma once

#include <filesystem>
#include <vector>

#include <onnx/onnx_pb.h>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Whether inputs, outputs or operators of the model involve sequences or optional values.
bool has_containers(onnx::ModelProto& model);

/// Replaces the inputs of such a model by tensors, as many as in the files of `data_set` (see LoadOptions). Its integer
/// and boolean inputs become constants with the values there: positions, lengths and conditions must follow from the
/// model. Throws Error if a file is missing or does not contain the input of the model.
void fix_containers(onnx::ModelProto& model, const std::filesystem::path& data_set);

/// The values in `data_set` for the remaining inputs, given the original model, and for its outputs: the elements of a
/// sequence, the contents of an optional value. Throws Error as above.
std::vector<Tensor> read_container_inputs(const onnx::ModelProto& model, const std::filesystem::path& data_set);
std::vector<Tensor> read_container_outputs(const onnx::ModelProto& model, const std::filesystem::path& data_set);

}  // namespace halfstep
