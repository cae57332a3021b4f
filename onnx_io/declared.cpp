#include "onnx_io/declared.h"

#include <sstream>
#include <string_view>

#include "onnx_io/source_model.h"

namespace halfstep {

std::vector<std::string> declared_parameters(const SourceModel& source) {
  // One line each: p_fc_weight: PARAMETER target='fc.weight'
  constexpr std::string_view kMark = ": PARAMETER target='";
  std::vector<std::string> names;
  for (const auto& entry : source.model.graph().metadata_props()) {
    if (entry.key() != "pkg.torch.export.ExportedProgram.graph_signature") continue;
    std::istringstream lines(entry.value());
    for (std::string line; std::getline(lines, line);) {
      const std::size_t mark = line.find(kMark);
      if (mark == std::string::npos) continue;
      const std::size_t begin = mark + kMark.size(), end = line.find('\'', begin);
      if (end != std::string::npos) names.push_back(line.substr(begin, end - begin));
    }
  }
  return names;
}

}  // namespace halfstep
