// A model for tests of what a training step takes of memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <halfstep/graph/shape.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep::test {

/// An initializer as text, with small numbers of both signs.
inline std::string initializer(const char* name, const Shape& shape) {
  std::vector<std::string> numbers;
  for (std::int64_t i = 0; i < shape.count(); ++i) numbers.push_back(fmt::format("{}", i * 29 % 17 * 0.02 - 0.16));
  return fmt::format("float{} {} = {{{}}}", shape.to_string(), name, fmt::join(numbers, ", "));
}

/// Layers whose activations are most of what a step needs, by whichever kernels: images x of `side` by `side` pixels,
/// eight outputs y.
inline LoadedModel deep_model(std::int64_t side) {
  std::string states = initializer("w0", {8, 3, 3, 3}), nodes = "t0 = Conv<pads = [1, 1, 1, 1]>(x, w0) ";
  for (int i = 1; i < 5; ++i) {
    states += ", " + initializer(fmt::format("w{}", i).c_str(), {8, 8, 3, 3});
    nodes += fmt::format("a{0} = Tanh(t{1}) t{0} = Conv<pads = [1, 1, 1, 1]>(a{0}, w{0}) ", i, i - 1);
  }
  return parse_model(fmt::format(R"(<ir_version: 10, opset_import: ["": 24]>
                                    deep (float[N, 3, {0}, {0}] x) => (float[N, 8] y) <{1}> {{
                                      {2} p = GlobalAveragePool(t4) y = Flatten(p)
                                    }})",
                                 side, states, nodes));
}

}  // namespace halfstep::test
