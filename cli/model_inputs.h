// Inputs of a model from files.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <halfstep/data/row_transform.h>
#include <halfstep/graph/graph.h>

namespace halfstep::cli {

/// A tensor for every input of the graph, of its type, from texts such as FILE.npy (for the first input without one),
/// NAME=FILE.npy, or FILE.npz, with arrays named like inputs. Throws Error(input) if one is missing, given twice, or
/// does not fit.
std::map<std::string, Tensor> read_inputs(const Graph& graph, const std::vector<std::string>& texts,
                                          const InputOptions& options);

/// The files named in such texts.
std::vector<std::filesystem::path> input_files(const std::vector<std::string>& texts);

}  // namespace halfstep::cli
