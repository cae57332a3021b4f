#include "onnx_io/declared.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <sstream>
#include <string_view>

#include "onnx_io/source_model.h"

namespace halfstep {
namespace {

struct Producer {
  std::string_view name;  ///< part of the producer's name, in lower case
  Exporter exporter;
};
constexpr std::array<Producer, 5> kProducers{{{"pytorch", Exporter::pytorch},
                                              {"tf2onnx", Exporter::keras},
                                              {"keras", Exporter::keras},
                                              {"tensorflow", Exporter::keras},
                                              {"paddle", Exporter::paddle}}};

}  // namespace

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

Exporter exporter_of(const SourceModel& source) {
  std::string name = source.model.producer_name();
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto* known = std::find_if(kProducers.begin(), kProducers.end(), [&](const Producer& producer) {
    return name.find(producer.name) != std::string::npos;
  });
  return known == kProducers.end() ? Exporter::unknown : known->exporter;
}

}  // namespace halfstep
