#include "ops/matmul/einsum_equation.h"

#include <cctype>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

[[noreturn]] void refuse(const std::string& required, const std::string& text, std::span<const Shape> shapes) {
  std::vector<std::string> found;
  for (const Shape& shape : shapes) found.push_back(shape.to_string());
  throw_input_error(required, fmt::format("'{}' on {}", text, fmt::join(found, ", ")), "correct the Einsum's equation");
}

}  // namespace

Equation::Equation(const std::string& text, std::span<const Shape> shapes) {
  std::string packed = text;
  std::erase_if(packed, [](unsigned char c) { return std::isspace(c); });
  const std::size_t arrow = packed.find("->");
  std::vector<std::string> terms{""};
  for (char c : packed.substr(0, arrow)) {
    if (c == ',')
      terms.emplace_back();
    else
      terms.back() += c;
  }
  if (terms.size() != shapes.size()) refuse("one term of the equation for each operand", text, shapes);

  int ellipsis_rank = 0;
  // The labels of a term; its ellipsis represents `hidden` axes.
  auto labels_of = [&](const std::string& term, std::int64_t hidden) {
    Labels labels;
    bool has_ellipsis = false;
    for (std::size_t i = 0; i < term.size(); ++i) {
      if (std::isalpha(static_cast<unsigned char>(term[i]))) {
        labels.push_back(static_cast<unsigned char>(term[i]));
        continue;
      }
      if (term.compare(i, 3, "...") != 0 || has_ellipsis)
        refuse("letters and at most one '...' in each term of the equation", text, shapes);
      has_ellipsis = true;
      i += 2;
      for (auto k = static_cast<int>(hidden); k-- > 0;) labels.push_back(kEllipsis + k);
      ellipsis_rank = std::max(ellipsis_rank, static_cast<int>(hidden));
    }
    return labels;
  };
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto rank = static_cast<std::int64_t>(shapes[i].rank());
    const bool has_ellipsis = terms[i].find('.') != std::string::npos;
    const std::int64_t letters = std::ranges::count_if(terms[i], [](unsigned char c) { return std::isalpha(c); });
    if (has_ellipsis ? letters > rank : letters != rank)
      refuse("as many labels in each term as its operand has axes", text, shapes);
    operands.push_back(labels_of(terms[i], rank - letters));
  }
  if (arrow != std::string::npos) {
    output = labels_of(packed.substr(arrow + 2), ellipsis_rank);
  } else {
    // Without an output term: the ellipsis, then the letters that occur once, in alphabetical order.
    for (int k = ellipsis_rank; k-- > 0;) output.push_back(kEllipsis + k);
    const std::string all = packed;
    for (int c = 'A'; c <= 'z'; ++c)
      if (std::isalpha(c) && std::ranges::count(all, static_cast<char>(c)) == 1) output.push_back(c);
  }

  for (int label : output) {
    const bool known = std::ranges::any_of(operands, [&](const Labels& l) { return std::ranges::count(l, label) > 0; });
    if (!known || std::ranges::count(output, label) > 1)
      refuse("output labels that stand in an operand, each once", text, shapes);
    extent(label);
  }
  for (std::size_t i = 0; i < operands.size(); ++i) {
    for (std::size_t axis = 0; axis < operands[i].size(); ++axis) {
      std::int64_t& known = extent(operands[i][axis]);
      const std::int64_t found = shapes[i][axis];
      if (found == 1 || found == known) continue;
      if (known == 1 || known == Shape::kUnknown)
        known = found;
      else if (found != Shape::kUnknown)
        refuse("one extent for each label, or 1", text, shapes);
    }
  }
}

Equation equation_of(const Node& node, std::span<const Shape> shapes) {
  return {node.attributes.get_string("equation", ""), shapes};
}

}  // namespace halfstep::ops
