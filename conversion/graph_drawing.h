// Drawing of the graph in a report. Internal to conversion.
#pragma once

#include <string>

#include <halfstep/conversion/report.h>

namespace halfstep::conversion {

/// An <svg> element, from the inputs at the top to the outputs at the bottom: nodes of class "half", "full" or "none",
/// each with its name and the reason for its precision as a tooltip.
std::string draw_graph(const ConversionReport& report);

}  // namespace halfstep::conversion
