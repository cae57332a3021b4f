// ONNX test cases with sequences and optional values, as cases over tensors.
#pragma once

#include <filesystem>
#include <vector>

#include <onnx/onnx_pb.h>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Whether inputs, outputs or operators of the model have to do with sequences or optional values.
bool has_containers(onnx::ModelProto& model);

/// Gives such a model inputs that are tensors, as many as the files in `data_set` have (see LoadOptions). Its integer
/// and boolean inputs become constants with the values there: positions, lengths and conditions must follow from the
/// model. Throws Error when a file is missing or holds something else than the model's input.
void fix_containers(onnx::ModelProto& model, const std::filesystem::path& data_set);

/// The values in `data_set` for the inputs that are left, given the model as it was, and for its outputs: of a sequence
/// its elements, of an optional value what it holds. Throws Error as above.
std::vector<Tensor> read_container_inputs(const onnx::ModelProto& model, const std::filesystem::path& data_set);
std::vector<Tensor> read_container_outputs(const onnx::ModelProto& model, const std::filesystem::path& data_set);

}  // namespace halfstep
