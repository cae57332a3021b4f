#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <string>

#include <fmt/format.h>

#include "base/printable.h"
#include "conversion/graph_drawing.h"
#include <halfstep/conversion/report.h>

namespace halfstep {
namespace {

constexpr const char* kStyle = R"(
:root{--half:#2b6cb0;--full:#c05621;--none:#8a94a0;--ink:#1f2933;--line:#d9dee4;--soft:#f6f7f9}
*{box-sizing:border-box}
body{font:14px/1.45 system-ui,sans-serif;color:var(--ink);margin:0 auto;max-width:1280px;padding:24px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:28px 0 8px}
.sub{color:#5a6672;margin:0 0 16px}
.cards{display:flex;flex-wrap:wrap;gap:12px}
.card{border:1px solid var(--line);border-radius:8px;padding:10px 16px;min-width:150px}
.card b{display:block;font-size:20px}.card span{color:#5a6672}
.bar{display:flex;height:18px;border-radius:4px;overflow:hidden;background:var(--line)}
.bar i{display:block}.h{background:var(--half)}.f{background:var(--full)}.n{background:var(--none)}
.graph{border:1px solid var(--line);border-radius:8px;height:70vh;overflow:auto;background:var(--soft);text-align:center}
.edge{fill:none;stroke:#b3bcc6}
svg text{font:11px system-ui,sans-serif;fill:#fff;text-anchor:middle;pointer-events:none}
g.half rect{fill:var(--half)}g.full rect{fill:var(--full)}g.none rect{fill:var(--none)}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:4px 10px;border-bottom:1px solid var(--line);vertical-align:middle}
th{position:sticky;top:0;background:#fff}td.num,th.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.name{overflow-wrap:anywhere;max-width:420px}
.scroll{max-height:70vh;overflow:auto;border:1px solid var(--line);border-radius:8px}
.tag{color:#fff;border-radius:4px;padding:1px 7px;font-size:12px;white-space:nowrap}
ul{margin:4px 0;padding-left:20px}.warn li::marker{content:"⚠ "}
input{font:inherit;padding:5px 10px;border:1px solid var(--line);border-radius:6px;width:320px;margin-bottom:8px}
.legend span{margin-right:16px}.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px}
)";

constexpr const char* kScript = R"(
for(const input of document.querySelectorAll('input[data-for]'))input.oninput=()=>{
 const wanted=input.value.toLowerCase();
 for(const row of document.querySelectorAll('#'+input.dataset.for+' tbody tr'))
  row.hidden=!row.textContent.toLowerCase().includes(wanted)};
)";

std::string bytes_text(std::uint64_t bytes) {
  const char* units[] = {"B", "KB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1000 && unit < std::size(units) - 1; ++unit) value /= 1000;
  return fmt::format("{:.{}f} {}", value, unit == 0 || value >= 100 ? 0 : 1, units[unit]);
}

std::string card(const std::string& value, const std::string& label) {
  return fmt::format("<div class=card><b>{}</b><span>{}</span></div>", value, label);
}

// Elements by power of two. The shaded band is the range of normal numbers of the half type.
constexpr int kFirstPower = -40, kLastPower = 24;
std::string histogram(const FloatRange& range, DType half) {
  constexpr double kWidth = 260, kHeight = 34;
  const double step = kWidth / (kLastPower - kFirstPower + 1);
  std::map<int, double> bins;
  for (std::size_t e = 0; e < range.exponents.size(); ++e) {
    const std::uint64_t n = range.exponents[e] - (e == 0 ? range.zeros : 0);
    if (n > 0) bins[std::clamp(static_cast<int>(e) - 127, kFirstPower, kLastPower)] += static_cast<double>(n);
  }
  double most = 0;
  for (auto [power, n] : bins) most = std::max(most, n);
  const auto x = [&](double power) { return std::clamp((power - kFirstPower) * step, 0.0, kWidth); };
  const double low = x(std::log2(smallest_normal(half))), high = x(half == DType::f16 ? 16 : 128);
  std::string svg = fmt::format(
      R"(<svg width="{0}" height="{1}"><rect width="{0}" height="{1}" fill="#fbeee6"/><rect x="{2:.1f}" width="{3:.1f}" height="{1}" fill="#e6eff8"/><path fill="#3b4754" d=")",
      kWidth, kHeight, low, high - low);
  for (auto [power, n] : bins) {
    const double tall = std::max(1.0, std::sqrt(n / most) * kHeight);
    fmt::format_to(std::back_inserter(svg), "M{:.1f} {}h{:.1f}v-{:.1f}h-{:.1f}z", x(power), kHeight, step * 0.85, tall,
                   step * 0.85);
  }
  return svg + "\"/></svg>";
}

std::string list(const std::vector<std::string>& items, const char* title, const char* css) {
  if (items.empty()) return {};
  std::string html = fmt::format("<h2>{}</h2><ul class={}>", title, css);
  for (const std::string& item : items) html += "<li>" + escape_markup(item) + "</li>";
  return html + "</ul>";
}

std::string operators_table(const ConversionReport& report) {
  struct Count {
    int half = 0, full = 0;
  };
  std::map<std::string, Count> counts;
  for (const NodeReport& node : report.nodes)
    if (node.has_floats) ++(node.half ? counts[node.op].half : counts[node.op].full);
  std::string html =
      "<h2>Operators</h2><div class=scroll><table><thead><tr><th>operator<th class=num>half<th class=num>f32<th "
      "style='width:50%'></thead><tbody>";
  for (const auto& [op, count] : counts)
    html += fmt::format(
        "<tr><td>{}<td class=num>{}<td class=num>{}<td><div class=bar><i class=h style='flex:{}'></i><i class=f "
        "style='flex:{}'></i></div>",
        escape_markup(op), count.half, count.full, count.half, count.full);
  return html + "</tbody></table></div>";
}

std::string nodes_table(const ConversionReport& report) {
  std::string html =
      "<h2>Nodes</h2><input data-for=nodes placeholder='filter by name, operator, reason'><div class=scroll><table "
      "id=nodes><thead><tr><th>node<th>operator<th>precision<th>why</thead><tbody>";
  for (const NodeReport& node : report.nodes) {
    const char* css = node.half ? "h" : node.has_floats ? "f" : "n";
    html += fmt::format("<tr><td class=name>{}{}<td>{}<td><span class='tag {}'>{}</span><td>{}",
                        node.graph.empty() ? "" : escape_markup(node.graph) + " / ", escape_markup(node.name),
                        escape_markup(node.op), css,
                        node.half         ? name_of(report.half)
                        : node.has_floats ? "f32"
                                          : "–",
                        escape_markup(node.reason));
  }
  return html + "</tbody></table></div>";
}

std::string tensors_table(const ConversionReport& report) {
  if (report.tensors.empty()) return {};
  std::string html = fmt::format(
      "<h2>Ranges</h2><p class=sub>Elements by magnitude, from 2<sup>{}</sup> to 2<sup>{}</sup>; the blue band is what "
      "{} "
      "holds in full precision.</p><input data-for=tensors placeholder='filter by name'><div class=scroll><table "
      "id=tensors><thead><tr><th>tensor<th>stored as<th class=num>size<th class=num>largest<th "
      "class=num>smallest<th class=num>below normal<th>magnitudes</thead><tbody>",
      kFirstPower, kLastPower, name_of(report.half));
  for (const TensorReport& tensor : report.tensors) {
    const FloatRange& range = tensor.range;
    const double below = range.count() > 0 ? 100.0 * static_cast<double>(range.below_normal(report.half)) /
                                                 static_cast<double>(range.count())
                                           : 0;
    html += fmt::format(
        "<tr><td class=name>{}<td>{}<td class=num>{}<td class=num>{:.3g}{}<td class=num>{:.3g}<td "
        "class=num>{:.2g} %<td>{}",
        escape_markup(tensor.name), tensor.is_constant ? tensor.types : "measured",
        tensor.is_constant ? bytes_text(tensor.bytes_after) : "", range.max,
        tensor.limit > 0 ? fmt::format(" → {:.3g}", tensor.limit) : "", range.min_non_zero, below,
        histogram(range, report.half));
  }
  return html + "</tbody></table></div>";
}

std::string boundary_table(const ConversionReport& report) {
  if (report.boundary.empty()) return {};
  std::string html =
      "<h2>Inputs and outputs</h2><div class=scroll><table><thead><tr><th>name<th><th>precision<th>why"
      "</thead><tbody>";
  for (const BoundaryReport& value : report.boundary)
    html += fmt::format("<tr><td class=name>{}<td>{}<td><span class='tag {}'>{}</span><td>{}",
                        escape_markup(value.name), value.is_input ? "input" : "output", value.half ? "h" : "f",
                        value.half ? name_of(report.half) : "f32", escape_markup(value.reason));
  return html + "</tbody></table></div>";
}

std::string errors_table(const ConversionReport& report) {
  if (report.errors.empty()) return {};
  std::string html =
      "<h2>Outputs beside f32</h2><div class=scroll><table><thead><tr><th>output<th class=num>largest error<th "
      "class=num>mean error<th class=num>largest value<th class=num>relative<th class=num>infinite or "
      "NaN</thead><tbody>";
  for (const OutputError& error : report.errors)
    html += fmt::format(
        "<tr><td>{}<td class=num>{:.3g}<td class=num>{:.3g}<td class=num>{:.3g}<td class=num>{:.3g}"
        "<td class=num>{}",
        escape_markup(error.name), error.max_error, error.mean_error, error.max_value, error.relative(),
        error.non_finite);
  return html + "</tbody></table></div>";
}

}  // namespace

std::string report_html(const ConversionReport& report) {
  const int half = report.half_nodes(), full = report.f32_nodes();
  const int none = static_cast<int>(report.nodes.size()) - half - full;
  const double ratio = report.bytes_before > 0
                           ? 100.0 * static_cast<double>(report.bytes_after) / static_cast<double>(report.bytes_before)
                           : 0;
  const std::string half_name(name_of(report.half));
  std::string html = "<!doctype html><html lang=en><head><meta charset=utf-8><title>" + escape_markup(report.model) +
                     "</title><style>" + kStyle + "</style></head><body>";
  html += fmt::format("<h1>{}</h1><p class=sub>converted to {} by halfstep</p><div class=cards>",
                      escape_markup(report.model), half_name);
  html +=
      card(bytes_text(report.bytes_after), fmt::format("from {} ({:.0f} %)", bytes_text(report.bytes_before), ratio));
  html += card(fmt::format("{}", half), half_name + " nodes") + card(fmt::format("{}", full), "f32 nodes");
  html += card(fmt::format("{}", report.casts_after), fmt::format("casts, {} in the source", report.casts_before));
  html += card(fmt::format("{}", report.opset_after), report.opset_after == report.opset_before
                                                          ? "operator set"
                                                          : fmt::format("operator set, was {}", report.opset_before));
  html += fmt::format(
      "</div><div class=bar style='margin-top:16px'><i class=h style='flex:{}'></i><i class=f style='flex:{}'></i><i "
      "class=n style='flex:{}'></i></div>",
      half, full, none);
  html += list(report.warnings, "Warnings", "warn") + list(report.notes, "Notes", "notes");
  html += errors_table(report);
  html += boundary_table(report);
  html += fmt::format(
      "<h2>Graph</h2><p class=legend><span><i class='dot h'></i>{}</span><span><i class='dot f'></i>f32</span><span><i "
      "class='dot n'></i>no floats</span></p><div class=graph>{}</div>",
      half_name, conversion::draw_graph(report));
  html += operators_table(report) + nodes_table(report) + tensors_table(report);
  return html + "<script>" + kScript + "</script></body></html>\n";
}

}  // namespace halfstep
