#include "tests/paths.h"

namespace halfstep::test {

const std::filesystem::path& source_dir() {
  static const std::filesystem::path folder = HALFSTEP_SOURCE_DIR;
  return folder;
}

}  // namespace halfstep::test
