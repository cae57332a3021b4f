// Random graphs of elementwise operators with others among them, to be cut into chains.
#pragma once

#include <algorithm>
#include <random>
#include <string_view>
#include <vector>

#include <halfstep/ops/builder.h>

namespace halfstep::testing {

/// Values are spread over a shape of three axes: rows, columns, channels, scalars, and several types.
class RandomChains {
 public:
  RandomChains(unsigned seed, const Shape& shape) : choose_(seed), shape_(shape) {
    graph_.opsets = {{"", 28}, {"ai.halfstep", 1}};
    const auto& d = shape.dims();
    for (const Shape& each : {shape, shape, Shape{d[2]}, Shape{d[1], 1}, Shape{d[0], 1, d[2]}, Shape{}})
      values_.push_back(b_.expr(graph_.add_input("x", DType::f32, each)));
  }

  Graph make(std::size_t nodes) {
    while (graph_.nodes.size() < nodes) add();
    const std::size_t last = values_.size() - 1;
    for (std::size_t v = 6; v <= last; ++v)
      if (v == last || graph_.users(values_[v].id()).empty() || below(5) == 0)
        graph_.outputs.push_back(values_[v].id());
    return std::move(graph_);
  }

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(choose_); }

  Expr any(DType dtype) {
    std::vector<Expr> fitting;
    for (const Expr& value : values_)
      if (value.dtype() == dtype) fitting.push_back(value);
    return fitting[std::max(below(fitting.size()), below(fitting.size()))];
  }

  void add() {
    constexpr std::string_view kUnary[] = {"Relu", "Sigmoid", "Tanh", "Neg", "Abs", "HardSwish"};
    constexpr std::string_view kBinary[] = {"Add", "Sub", "Mul", "Max", "Min"};
    constexpr DType kFloats[] = {DType::f32, DType::f32, DType::f16, DType::bf16};
    const Expr x = b_.cast(any(DType::f32), kFloats[below(4)]);
    Expr y = x;
    switch (below(8)) {
      case 0:
      case 1:
        y = b_.op(kUnary[below(6)], {x});
        break;
      case 2:
        y = b_.op("Where", {b_.op("Less", {any(DType::f32), any(DType::f32)}), x, b_.cast(any(DType::f32), x.dtype())});
        break;
      case 3:
        y = b_.op("Clip", {x, b_.scalar(-0.5, x.dtype()), b_.scalar(0.75, x.dtype())});
        break;
      case 4:  // no elementwise operator
        if (x.rank() > 0) y = below(2) == 0 ? b_.op("Softmax", {x}) : b_.reduce_sum(x, {-1}, true);
        break;
      default:
        y = b_.op(kBinary[below(5)], {x, b_.cast(any(DType::f32), x.dtype())});
    }
    y = b_.cast(y, DType::f32);
    const auto is_it = [&](const Expr& value) { return value.id() == y.id(); };
    if (std::none_of(values_.begin(), values_.end(), is_it)) values_.push_back(y);
  }

  std::mt19937 choose_;
  Shape shape_;
  Graph graph_;
  Builder b_{graph_};
  std::vector<Expr> values_;
};

}  // namespace halfstep::testing
