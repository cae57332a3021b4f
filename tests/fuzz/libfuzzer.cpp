// A fuzz target of libFuzzer for the format HALFSTEP_FUZZ_FORMAT, one of formats.h. With FUZZ_SEEDS=FOLDER in the
// environment it first writes the format's seeds there, which are to be its corpus.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>

#include "tests/fuzz/formats.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* folder = std::getenv("FUZZ_SEEDS");
  if (!folder) return 0;
  std::size_t number = 0;
  for (const std::string& seed : halfstep::fuzz::HALFSTEP_FUZZ_FORMAT.seeds())
    std::ofstream(std::string(folder) + "/seed" + std::to_string(number++), std::ios::binary) << seed;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  halfstep::fuzz::HALFSTEP_FUZZ_FORMAT.read({reinterpret_cast<const char*>(data), size});
  return 0;
}
