// Gelu from the arithmetic that exporters write in its place.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

/// Coefficients of 1, x, x^2 and x^3.
using Polynomial = std::array<double, 4>;
/// a + b f, polynomials in x.
struct Form {
  Polynomial a{}, b{};
};
constexpr Polynomial kZero = {}, kHalfOfX = {0, 0.5};

std::optional<Polynomial> product(const Polynomial& p, const Polynomial& q) {
  Polynomial result{};
  for (std::size_t i = 0; i < p.size(); ++i)
    for (std::size_t j = 0; j < q.size(); ++j) {
      if (p[i] == 0 || q[j] == 0) continue;
      if (i + j >= result.size()) return std::nullopt;
      result[i + j] += p[i] * q[j];
    }
  return result;
}

std::optional<Form> product(const Form& p, const Form& q) {
  if (p.b != kZero && q.b != kZero) return std::nullopt;
  const auto a = product(p.a, q.a), left = product(p.b, q.a), right = product(p.a, q.b);
  if (!a || !left || !right) return std::nullopt;
  Form result{*a, *left};
  for (std::size_t i = 0; i < result.b.size(); ++i) result.b[i] += (*right)[i];
  return result;
}

/// Up to the rounding of constants to f32.
bool equal(const Polynomial& found, const Polynomial& wanted) {
  return std::equal(found.begin(), found.end(), wanted.begin(),
                    [](double f, double w) { return std::fabs(f - w) <= 1e-6 * std::fabs(w); });
}

/// Values of a graph as polynomials in one of them, `x`, and linear in another, `f`.
class Forms {
 public:
  Forms(const Graph& graph, ValueId x, ValueId f) : graph_(graph), x_(x), f_(f) {}

  std::optional<Form> of(ValueId id, int depth = kDepth) const {
    if (id == x_) return Form{{0, 1}, {}};
    if (id == f_) return Form{{}, {1}};
    if (const auto c = constant(id)) return Form{{*c}, {}};
    const Node* producer = graph_.producer(id);
    if (!producer || depth == 0) return std::nullopt;
    const Node& node = *producer;
    if (!is_arithmetic(node)) return std::nullopt;
    const auto left = of(node.inputs[0], depth - 1);
    if (!left) return std::nullopt;
    if (node.op == "Div" || node.op == "Pow") {
      const auto c = constant(node.inputs[1]);
      if (!c || *c == 0) return std::nullopt;
      return node.op == "Div" ? product(*left, Form{{1 / *c}, {}}) : power(*left, *c);
    }
    const auto right = of(node.inputs[1], depth - 1);
    if (!right) return std::nullopt;
    if (node.op == "Mul") return product(*left, *right);
    Form sum = *left;
    for (std::size_t i = 0; i < sum.a.size(); ++i) {
      sum.a[i] += right->a[i];
      sum.b[i] += right->b[i];
    }
    return sum;
  }

  static bool is_arithmetic(const Node& node) {
    return node.is("Add") || node.is("Mul") || node.is("Div") || node.is("Pow");
  }
  static constexpr int kDepth = 6;  // of any way to write Gelu

 private:
  std::optional<double> constant(ValueId id) const {
    const Value& value = graph_[id];
    if (!value.is_constant() || value.constant.count() != 1) return std::nullopt;
    return to_doubles(value.constant)[0];
  }
  static std::optional<Form> power(const Form& base, double exponent) {
    if (exponent != 2 && exponent != 3) return std::nullopt;
    const auto square = product(base, base);
    return exponent == 2 || !square ? square : product(*square, base);
  }

  const Graph& graph_;
  ValueId x_, f_;
};

/// Of which Gelu the node computes the Erf or Tanh: what that is applied to, in terms of Gelu's operand.
std::optional<Polynomial> inner_polynomial(const Node& node) {
  constexpr double kScale = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
  if (node.is("Erf")) return Polynomial{0, 1 / std::numbers::sqrt2};
  if (node.is("Tanh")) return Polynomial{0, kScale, 0, kScale * 0.044715};
  return std::nullopt;
}

/// The value x of which value `id` is the polynomial `wanted`: the nearest of those that `id` is computed from.
ValueId find_operand(const Graph& graph, ValueId id, const Polynomial& wanted) {
  std::vector<ValueId> level = {id};
  for (int depth = 0; depth < Forms::kDepth; ++depth) {
    std::vector<ValueId> next;
    for (ValueId value : level) {
      const Node* producer = graph.producer(value);
      if (!producer || !Forms::is_arithmetic(*producer)) continue;
      for (ValueId x : producer->inputs) {
        if (graph[x].is_constant()) continue;
        const auto form = Forms(graph, x, kNoValue).of(id);
        if (form && equal(form->a, wanted)) return x;
        next.push_back(x);
      }
    }
    level = std::move(next);
  }
  return kNoValue;
}

}  // namespace

Pass compose_gelu() {
  return {"compose_gelu", [](Graph& graph) {
            for (const Node& node : graph.nodes) {
              const auto inner = inner_polynomial(node);
              if (!inner) continue;
              const ValueId x = find_operand(graph, node.inputs[0], *inner);
              if (x == kNoValue) continue;
              const Forms forms(graph, x, node.outputs[0]);
              ValueId value = node.outputs[0];
              for (int depth = 0; depth < Forms::kDepth; ++depth) {
                const Use* reader = graph.sole_user(value);
                if (!reader || !Forms::is_arithmetic(graph.nodes[reader->node])) break;
                value = graph.nodes[reader->node].outputs[0];
                const auto form = forms.of(value);
                if (!form) break;
                if (!equal(form->a, kHalfOfX) || !equal(form->b, kHalfOfX) || graph[value].shape != graph[x].shape)
                  continue;
                const Graph::Edit last = graph.edit(reader->node);
                last->attributes = node.is("Tanh") ? Attributes{{"approximate", std::string("tanh")}} : Attributes();
                last->op = "Gelu";
                last->inputs = {x};
                break;
              }
            }
            graph.remove_dead();
          }};
}

}  // namespace halfstep
