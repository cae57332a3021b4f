// Makes text from files safe to display.
#pragma once

#include <string>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// The text on a single line: control characters, line ends, characters that change the writing direction, and invalid
/// UTF-8 bytes become \n, \t, \xNN or \uNNNN. For displaying names and paths: otherwise they could control a terminal,
/// or fake a line of a log.
std::string printable(std::string_view text);

/// The same for HTML, SVG and XML: also replaces `&`, `<`, `>` and `"`.
std::string escape_markup(std::string_view text);

/// JSON in ASCII, so that names cannot affect a terminal; invalid UTF-8 bytes become U+FFFD.
template <class Json>
std::string json_text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', true, Json::error_handler_t::replace);
}

}  // namespace halfstep
