// Reading the protobuf message of a model, before further processing. Internal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <new>
#include <string>
#include <string_view>

#include <onnx/onnx_pb.h>

#include "ops/onnx_message.h"
#include <halfstep/base/error.h>

namespace halfstep {

/// The limit of Protocol Buffers.
inline constexpr std::uint64_t kMaxMessageBytes = std::numeric_limits<std::int32_t>::max();

/// Throws Error(input) if the bytes are not an ONNX model, naming their format if it is known.
onnx::ModelProto parse_message(std::string_view bytes);
onnx::ModelProto read_message(const std::filesystem::path& path);

/// The message that ONNX's text form describes. Throws Error(input) for any other text.
onnx::ModelProto parse_text(std::string_view text);

/// Throws Error(input) if a tensor's data is in a file: a model that does not come from a file has no folder for it.
void refuse_external_data(onnx::ModelProto& model);

/// Throws Error(input) for an unknown IR version or opset.
void check_versions(const onnx::ModelProto& model, std::int64_t oldest_opset);

/// Replaces calls of the model's local functions by their bodies. Throws Error(input) if this is impossible, or would
/// give too many nodes.
void inline_functions(onnx::ModelProto& model);

/// Runs a part of the ONNX library, and converts its exceptions, which have several types, to Error(input).
template <class F>
void guarded(const std::string& required, const F& work) {
  try {
    work();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw_failure(required, "not enough memory for it", "use a machine with more memory");
  } catch (const std::exception& e) {
    throw_input_error(required, plain_onnx_message(e.what()),
                      "correct the model where the message says, or export it again");
  }
}

/// Adds the file's name to errors of `work` that lack it.
template <class F>
auto naming_file(const std::filesystem::path& path, const F& work) {
  try {
    return work();
  } catch (const Error& e) {
    const std::string name = "'" + path.string() + "'";
    if (e.found().find(name) != std::string::npos) throw;
    throw Error(e.kind(), e.required(), e.found() + " (in " + name + ")", e.remedy());
  }
}

}  // namespace halfstep
