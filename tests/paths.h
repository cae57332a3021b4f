// Where tests find the project's own files. In a library of one source file, so that no other test is compiled anew in
// another checkout.
#pragma once

#include <filesystem>

namespace halfstep::test {

/// The folder of the project's sources.
const std::filesystem::path& source_dir();

}  // namespace halfstep::test
