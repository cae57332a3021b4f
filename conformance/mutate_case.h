// ONNX test cases with something in them changed at random: what a loader and its kernels must survive.
#pragma once

#include <cstdint>
#include <string>

#include "conformance/onnx_case.h"
#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// A model that may be invalid in any way but is a whole protobuf message, and inputs for it.
struct MutatedCase {
  std::string model;  ///< its bytes, as of a file
  std::vector<Tensor> inputs;
  std::string changes;  ///< what was changed, a line for each change
};

/// `onnx_case` with one to three changes of attributes, operands, types, shapes or values; a pure function of the
/// arguments.
MutatedCase mutate_case(const OnnxCase& onnx_case, std::uint64_t seed, std::size_t number);

/// Which of `count` cases mutant `number` is made of.
std::size_t mutated_case_index(std::uint64_t seed, std::size_t number, std::size_t count);

/// "node/test_relu#17"
std::string mutant_name(const OnnxCase& onnx_case, std::size_t number);

/// Loads and runs mutant `number` on the reference executor and on `executor`. It passes when halfstep refuses it with
/// an Error, or when both give the same results (as execution_difference compares them); it fails when only one of them
/// refuses it, when they differ, or when anything else than an Error is thrown. Does not apply to what has tensors too
/// large for a test, or a result that ONNX leaves open.
CheckReport check_mutant(const OnnxCase& onnx_case, const MutatedCase& mutant, std::size_t number, Executor& executor);

}  // namespace halfstep
