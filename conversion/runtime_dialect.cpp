#include "conversion/runtime_dialect.h"

#include <array>

namespace halfstep::conversion {
namespace {

struct Extension {
  std::string_view op;
  std::int64_t first;  ///< the version with the first schema of it; 0: none
};
constexpr std::array kExtensions = {Extension{"LayerNormalization", 17}, Extension{"SimplifiedLayerNormalization", 0}};

}  // namespace

std::int64_t first_version_of_extension(std::string_view domain, std::string_view op) {
  if (!domain.empty()) return 0;
  for (const Extension& extension : kExtensions)
    if (extension.op == op) return extension.first;
  return 0;
}

}  // namespace halfstep::conversion
