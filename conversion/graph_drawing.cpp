#include "conversion/graph_drawing.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include "base/printable.h"

namespace halfstep::conversion {
namespace {

constexpr double kBoxWidth = 118, kBoxHeight = 20, kColumn = 130, kRow = 36, kMargin = 10;

struct Box {
  int rank = 0;
  double column = 0;
  std::vector<std::size_t> before;
};

std::vector<Box> place(const std::vector<NodeReport>& nodes) {
  std::vector<Box> boxes(nodes.size());
  std::unordered_map<std::string, std::size_t> producer;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (const std::string& output : nodes[i].outputs) producer.emplace(output, i);
  // Nodes are in topological order, except bodies, whose owner follows them and reads none of their values.
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::string& input : nodes[i].inputs)
      if (auto it = producer.find(input); it != producer.end() && it->second < i) boxes[i].before.push_back(it->second);
    for (std::size_t p : boxes[i].before) boxes[i].rank = std::max(boxes[i].rank, boxes[p].rank + 1);
  }
  // Nodes without predecessors are placed directly above their first reader.
  std::vector<int> first_reader(nodes.size(), -1);
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (std::size_t p : boxes[i].before)
      first_reader[p] = first_reader[p] < 0 ? boxes[i].rank : std::min(first_reader[p], boxes[i].rank);
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (boxes[i].before.empty() && first_reader[i] > 0) boxes[i].rank = first_reader[i] - 1;

  std::map<int, std::vector<std::size_t>> ranks;
  for (std::size_t i = 0; i < nodes.size(); ++i) ranks[boxes[i].rank].push_back(i);
  for (auto& [rank, row] : ranks) {
    for (std::size_t i : row) {
      double sum = 0;
      for (std::size_t p : boxes[i].before) sum += boxes[p].column;
      boxes[i].column = boxes[i].before.empty() ? 0 : sum / static_cast<double>(boxes[i].before.size());
    }
    std::stable_sort(row.begin(), row.end(),
                     [&](std::size_t a, std::size_t b) { return boxes[a].column < boxes[b].column; });
    // As close as possible to the desired positions, each in its own column, then centred on them.
    double wanted = 0, given = 0, next = -1e9;
    for (std::size_t i : row) {
      wanted += boxes[i].column;
      next = std::max(boxes[i].column, next + 1);
      boxes[i].column = next;
      given += next;
    }
    const double shift = (wanted - given) / static_cast<double>(row.size());
    for (std::size_t i : row) boxes[i].column += shift;
  }
  return boxes;
}

}  // namespace

std::string draw_graph(const ConversionReport& report) {
  const std::vector<Box> boxes = place(report.nodes);
  if (boxes.empty()) return "<svg></svg>";
  const auto [left, right] =
      std::minmax_element(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.column < b.column; });
  const auto lowest =
      std::max_element(boxes.begin(), boxes.end(), [](const Box& a, const Box& b) { return a.rank < b.rank; });
  const double first = left->column;
  const auto x = [&](const Box& box) { return kMargin + (box.column - first) * kColumn; };
  const auto y = [&](const Box& box) { return kMargin + box.rank * kRow; };
  const double width = x(*right) + kBoxWidth + kMargin, height = y(*lowest) + kBoxHeight + kMargin;
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}">)",
      width, height);
  auto out = std::back_inserter(svg);
  for (const Box& box : boxes)
    for (std::size_t p : box.before) {
      const double x1 = x(boxes[p]) + kBoxWidth / 2, y1 = y(boxes[p]) + kBoxHeight, x2 = x(box) + kBoxWidth / 2,
                   y2 = y(box);
      fmt::format_to(out, R"(<path class="edge" d="M{:.0f} {:.0f}C{:.0f} {:.0f} {:.0f} {:.0f} {:.0f} {:.0f}"/>)", x1,
                     y1, x1, y1 + kRow / 2, x2, y2 - kRow / 2, x2, y2);
    }
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const NodeReport& node = report.nodes[i];
    fmt::format_to(out,
                   R"svg(<g class="{}" transform="translate({:.0f} {:.0f})"><rect width="{}" height="{}" rx="4"/>)svg"
                   "<text x=\"{}\" y=\"14\">{}</text><title>{}\n{}{}</title></g>",
                   node.half         ? "half"
                   : node.has_floats ? "full"
                                     : "none",
                   x(boxes[i]), y(boxes[i]), kBoxWidth, kBoxHeight, kBoxWidth / 2, escape_markup(node.op),
                   escape_markup(node.name), node.graph.empty() ? "" : "in " + escape_markup(node.graph) + "\n",
                   escape_markup(node.reason));
  }
  return svg + "</svg>";
}

}  // namespace halfstep::conversion
