#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>
#include <onnx/common/version.h>

#include <halfstep/executors/versions.h>

namespace halfstep {

std::vector<std::pair<std::string, std::string>> library_versions() {
  const dnnl_version_t* dnnl = dnnl_version();  // of the library that is loaded
  return {{"oneDNN", fmt::format("{}.{}.{}", dnnl->major, dnnl->minor, dnnl->patch)}, {"ONNX", ONNX_VERSION_STRING}};
}

}  // namespace halfstep
