// Text that comes from files, made fit to be shown.
#pragma once

#include <string>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// The text on one line that says what it holds: control characters, line ends, marks that change the direction of
/// writing, and bytes that are no UTF-8 stand as \n, \t, \xNN or \uNNNN. For names and paths, wherever they are shown:
/// a terminal would obey them, and a log take a line of theirs for one of its own.
std::string printable(std::string_view text);

/// The same for HTML, SVG and XML: `&`, `<`, `>` and `"` are replaced as well.
std::string escape_markup(std::string_view text);

/// JSON in ASCII, so that nothing in a name reaches a terminal as it is; bytes that are no UTF-8 become U+FFFD.
template <class Json>
std::string json_text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', true, Json::error_handler_t::replace);
}

}  // namespace halfstep
