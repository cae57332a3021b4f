// Random operators. Programs use PhiloxRandom, whose counter is a state (passes/load/random_numbers.h); called
// directly, the operators of ai.onnx draw the same numbers each time.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <string_view>

#include "ops/family_parts.h"
#include "ops/onnx_row.h"
#include "ops/random/random_numbers.h"
#include "ops/schema_util.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {

void draw(const DropoutStream& stream, const Distribution& d, std::span<float> out) {
  const float end = d.first + d.spread, below_end = std::nextafter(end, d.first);
  for (std::size_t first = 0; first < out.size(); first += 4) {
    std::array<float, 4> numbers = stream.uniforms(first / 4);
    if (d.is_normal) {
      // Box and Muller, A note on the generation of random normal deviates, 1958.
      for (std::size_t i : {0u, 2u}) {
        const double radius = std::sqrt(-2 * std::log(1 - static_cast<double>(numbers[i])));
        const double angle = 2 * std::numbers::pi * numbers[i + 1];
        numbers[i] = static_cast<float>(radius * std::cos(angle));
        numbers[i + 1] = static_cast<float>(radius * std::sin(angle));
      }
    }
    for (std::size_t i = first; i < std::min(first + 4, out.size()); ++i) {
      const float number = d.first + d.spread * numbers[i - first];
      out[i] = !d.is_normal && d.spread != 0 && number == end ? below_end : number;  // rounded up to it
    }
  }
}

bool draws_numbers(const Node& node) { return node.domain.empty() && traits_of(node).random && node.op != "Dropout"; }

Distribution distribution_of(const Node& node) {
  if (node.op.starts_with("RandomNormal"))
    return {true, node.attributes.get_float("mean", 0), node.attributes.get_float("scale", 1)};
  const float low = node.attributes.get_float("low", 0);
  return {false, low, node.attributes.get_float("high", 1) - low};
}

bool has_seed(const Node& node) { return node.attributes.has("seed"); }

std::uint64_t seed_of(const Node& node) { return std::bit_cast<std::uint32_t>(node.attributes.get_float("seed", 0)); }

namespace {

// Distinguishes nodes without a seed (FNV-1a).
std::uint32_t stream_of(const Node& node) {
  std::uint32_t hash = 2166136261u;
  for (const char c : node.name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

DropoutStream own_stream(const Node& node) {
  return {.seed = seed_of(node), .stream = has_seed(node) ? 0 : stream_of(node), .counter = 0};
}

std::vector<float> drawn(const Node& node, const Distribution& distribution, std::int64_t count) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  draw(own_stream(node), distribution, numbers);
  return numbers;
}

void store_floats(Tensor& out, const std::vector<float>& numbers) {
  store(out, std::span<const double>(std::vector<double>(numbers.begin(), numbers.end())));
}

void draw_into(KernelCall& call, DType otherwise, const Shape& shape) {
  if (!shape.is_static())
    throw_input_error("extents of at least 0", shape.to_string(), "check the shape of " + call.node.op);
  const auto dtype = static_cast<DType>(call.node.attributes.get_int("dtype", static_cast<std::int64_t>(otherwise)));
  if (!is_float(dtype))
    throw_input_error("a float type of random numbers", std::string(name_of(dtype)),
                      "check " + call.node.op + "'s dtype");
  Tensor& out = ensure_out(call, 0, dtype, shape);  // throws if it exceeds memory
  store_floats(out, drawn(call.node, distribution_of(call.node), out.count()));
}

void random_of_shape(KernelCall& call) { draw_into(call, DType::f32, Shape(call.node.attributes.get_ints("shape"))); }

void random_like(KernelCall& call) {
  const DType dtype = call.in[0].dtype();
  draw_into(call, dtype, call.in[0].shape());
}

void bernoulli(KernelCall& call) {
  const Tensor& p = call.in[0];
  const auto dtype = static_cast<DType>(call.node.attributes.get_int("dtype", static_cast<std::int64_t>(p.dtype())));
  const std::vector<double> probabilities = to_doubles(p);
  const std::vector<float> numbers = drawn(call.node, {}, p.count());
  std::vector<std::int64_t> hits(numbers.size());
  for (std::size_t i = 0; i < hits.size(); ++i) hits[i] = numbers[i] < probabilities[i];
  store(ensure_out(call, 0, dtype, p.shape()), std::span<const std::int64_t>(hits));
}

// The maximum of logits with Gumbel noise is a sample of their softmax.
void multinomial(KernelCall& call) {
  const Tensor& x = call.in[0];
  const std::int64_t samples = call.node.attributes.get_int("sample_size", 1);
  if (x.shape().rank() != 2 || samples < 1 || x.shape()[1] < 1)
    throw_input_error("log-probabilities [batch, classes] of one class at least, and one sample at least",
                      x.shape().to_string() + " and " + std::to_string(samples), "check Multinomial");
  const auto dtype = static_cast<DType>(call.node.attributes.get_int("dtype", static_cast<std::int64_t>(DType::i32)));
  const std::int64_t batch = x.shape()[0], classes = x.shape()[1];
  Tensor& out = ensure_out(call, 0, dtype, {batch, samples});
  const std::vector<double> logits = to_doubles(x);
  std::vector<float> numbers = drawn(call.node, {}, batch * samples * classes);
  std::vector<std::int64_t> chosen;
  for (std::int64_t row = 0; row < batch * samples; ++row) {
    std::int64_t best = 0;
    double most = -std::numeric_limits<double>::infinity();
    for (std::int64_t c = 0; c < classes; ++c) {
      const double score =
          logits[row / samples * classes + c] - std::log(-std::log(static_cast<double>(numbers[row * classes + c])));
      if (score > most) {
        most = score;
        best = c;
      }
    }
    chosen.push_back(best);
  }
  store(out, std::span<const std::int64_t>(chosen));
}

void philox_random(KernelCall& call) {
  const Attributes& a = call.node.attributes;
  const DropoutStream stream = {static_cast<std::uint64_t>(a.get_int("seed", 0)),
                                static_cast<std::uint32_t>(a.get_int("stream", 0)),
                                static_cast<std::uint64_t>(single_int(call.in[0], "counter"))};
  const Shape shape(a.get_ints("shape"));
  if (!shape.is_static()) throw_input_error("extents of at least 0", shape.to_string(), "check PhiloxRandom's shape");
  Tensor& out = ensure_out(call, 0, DType::f32, shape);
  draw(stream, {a.get_int("normal", 0) != 0, a.get_float("first", 0), a.get_float("spread", 1)}, out.span<float>());
}

void philox_random_schema(onnx::OpSchema& schema) {
  using onnx::AttributeProto;
  schema.SetDoc("Random numbers that are a function of seed, stream, counter and position.")
      .Attr("seed", "Seed of the run, or of the operator in the model.", AttributeProto::INT, std::int64_t{0})
      .Attr("stream", "Tells the operators of a model apart.", AttributeProto::INT, std::int64_t{0})
      .Attr("shape", "Shape of the result.", AttributeProto::INTS)
      .Attr("normal", "A normal distribution; otherwise a uniform one.", AttributeProto::INT, std::int64_t{0})
      .Attr("first", "Mean; lower end.", AttributeProto::FLOAT, 0.0f)
      .Attr("spread", "Standard deviation; width.", AttributeProto::FLOAT, 1.0f)
      .TypeConstraint("I", {"tensor(int64)"}, "Type of the counter.")
      .TypeConstraint("T", {"tensor(float)"}, "Type of the numbers.")
      .Input(0, "counter", "Number of the step, a scalar.", "I")
      .Output(0, "y", "The numbers.", "T")
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        onnx::updateOutputElemType(ctx, 0, onnx::TensorProto::FLOAT);
        onnx::propagateShapeFromAttributeToOutput(ctx, "shape", 0);
      });
}

constexpr std::string_view kNote =
    "fresh numbers every step and run of a batch, by the attribute seed or else the run's; the model has no gradient "
    "through them";

OpDef random_row(std::string_view name, ReferenceKernel reference, std::vector<OpCase> cases) {
  return onnx_row(name, PrecisionClass::full, {.random = true}, reference, no_gradient, std::move(cases), kNote);
}

}  // namespace

std::vector<OpDef> random_rows() {
  return {
      random_row("RandomUniform", random_of_shape,
                 {{"() => (float[2,3] y) { y = RandomUniform<shape = [2, 3], low = -1.0, high = 3.0>() }"},
                  {"() => (float16[5] y) { y = RandomUniform<shape = [5], dtype = 10, seed = 7.0>() }"},
                  {"() => (float[0] y) { y = RandomUniform<shape = [0]>() }"}}),
      random_row("RandomUniformLike", random_like,
                 {{"(float[2,3] x) => (float[2,3] y) { y = RandomUniformLike<high = 2.0>(x) }"},
                  {"() => (float[3] y) <int64[3] x = {1, 2, 3}> { y = RandomUniformLike<dtype = 1>(x) }"}}),
      random_row("RandomNormal", random_of_shape,
                 {{"() => (float[2,3] y) { y = RandomNormal<shape = [2, 3], mean = 1.0, scale = 0.5>() }"},
                  {"() => (float y) { y = RandomNormal<shape: ints = []>() }"}}),
      random_row("RandomNormalLike", random_like,
                 {{"(float[2,3] x) => (float[2,3] y) { y = RandomNormalLike<seed = 3.0>(x) }"}}),
      random_row("Bernoulli", bernoulli,
                 {{"(float[2,3] x) => (float[2,3] y) { y = Bernoulli(x) }", 0.1, 0.9},
                  {"(float[2,3] x) => (bool[2,3] y) { y = Bernoulli<dtype = 9>(x) }", 0.1, 0.9}}),
      random_row("Multinomial", multinomial,
                 {{"(float[2,3] x) => (int32[2,4] y) { y = Multinomial<sample_size = 4>(x) }"},
                  {"(float[2,3] x) => (int64[2,1] y) { y = Multinomial<dtype = 7>(x) }"}}),
      {.name = "PhiloxRandom",
       .domain = kOwnDomain,
       .traits = {.random = true},
       .reference = philox_random,
       .gradient = no_gradient,
       .cases = {{"() => (float[3,5] y) <int64 counter = {3}> "
                  "{ y = ai.halfstep.PhiloxRandom<seed = 42, stream = 1, shape = [3, 5]>(counter) }"},
                 {"() => (float[7] y) <int64 counter = {0}> "
                  "{ y = ai.halfstep.PhiloxRandom<shape = [7], normal = 1, first = 2.0, spread = 0.5>(counter) }"}},
       .schema = philox_random_schema},
  };
}

}  // namespace halfstep::ops
