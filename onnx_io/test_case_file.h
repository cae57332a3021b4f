// The files of ONNX's test cases.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <halfstep/base/error.h>

namespace halfstep {

/// The message in a file; `what` names it ("a tensor"). Throws Error if the file cannot be read, or does not contain
/// such a message.
template <class Message>
Message read_case_file(const std::filesystem::path& path, const std::string& what) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  Message message;
  if (!file || !message.ParseFromString(bytes))
    throw_input_error(what + " in ONNX's format", "'" + path.string() + "'",
                      "write the cases again with script/onnx_cases");
  return message;
}

}  // namespace halfstep
