// From trained parameters, or a Graph, to an .onnx file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/onnx_io/load.h>

namespace HALFSTEP_API halfstep {

enum class OutputForm {
  inference,  ///< BatchNormalization by its running statistics, Dropout off
  training,   ///< both as the source model has them
};

/// Whether tensors go to a second file, `NAME.onnx.data`, beside the model.
enum class ExternalData {
  automatic,  ///< when the model would be larger than the 2 GB a protobuf message may have
  always,
  never,
};

struct SaveOptions {
  OutputForm form = OutputForm::inference;
  ExternalData external_data = ExternalData::automatic;
};

// Parameters are called by the name they have in the source model: an initializer, a Constant node's output, or, for
// one of several that an exporter merged, the output of the Identity node that names it. A single row stands for all
// rows of a tensor that the exporter expanded over the batch, the first half of a matrix's columns for one whose others
// are zero.

/// Writes the source model with other parameters; everything else (names, versions, metadata, doc strings) stays, in
/// the form that loading gave it (normalize.h: nodes sorted, sparse tensors dense). Each parameter is written in the
/// element type it has in the source. A merged parameter becomes an initializer of its own in place of its Identity
/// node. In inference form, what only training needed is removed. Where a parameter's name exists only after the
/// model's local functions are inlined, they are inlined in the file. Throws Error(failure) when a name is not in the
/// source, a shape differs from the source's, or the file cannot be written; nothing at `path` has changed then.
void save_trained(const SourceModel& source, const NamedTensors& parameters, const std::filesystem::path& path,
                  const SaveOptions& options = {});

/// For the user, a line each: how many of the parameters `save_trained` writes in a half type, because the source
/// stores them in it, and which have elements beyond its range, which become its largest number.
std::vector<std::string> storage_notes(const SourceModel& source, const NamedTensors& parameters);

/// The model `save_trained` would write, as bytes of an .onnx file (at most 2 GB). What it stores and computes in the
/// half type `widened` is f32 in it.
std::string trained_model_bytes(const SourceModel& source, const NamedTensors& parameters,
                                OutputForm form = OutputForm::inference, DType widened = DType::undefined);

/// To be called before training: throws Error(input) unless `save_trained` can place parameters of these names.
void check_can_save(const SourceModel& source, const std::vector<std::string>& parameter_names);

/// Writes a Graph as a model, in the oldest operator set that has all its operators, so that most runtimes can run it.
/// The file appears whole or not at all.
void save_model(const Graph& graph, const std::filesystem::path& path,
                ExternalData external_data = ExternalData::automatic);

/// To be called before long work: throws Error unless a model of about `expected_bytes` can be written to `path`.
void check_output_path(const std::filesystem::path& path, std::uint64_t expected_bytes = 0);

}  // namespace halfstep
