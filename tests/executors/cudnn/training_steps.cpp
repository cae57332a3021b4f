#include "tests/executors/cudnn/training_steps.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/paths.h"
#include <halfstep/formats/data_format.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/passes/prepared_model.h>

namespace halfstep::cudnn {
namespace {

namespace fs = std::filesystem;

struct Model {
  Graph graph;
  std::int64_t batch = 0;
  LossTerm loss = {};
  std::string optimizer = {};
};

fs::path zoo() { return test::source_dir() / "models" / "zoo"; }

Model zoo_model(const std::string& name) {
  const fs::path folder = zoo() / name;
  const nlohmann::json expected = nlohmann::json::parse(std::ifstream(folder / "expected.json"));
  const DataArray y = open_array(folder / "y.npy");
  Model model{load_model(folder / "model.onnx").graph, open_array(folder / "x.npy").rows()};
  model.loss.loss = expected["loss"].get<std::string>();
  model.loss.label_dtype = is_float(y.dtype()) ? DType::f32 : DType::i64;
  model.loss.label_shape = y.shape();
  model.optimizer = expected["optimizer"].get<std::string>();
  return model;
}

/// Layers of a network whose weights are of no importance.
class Layers {
 public:
  explicit Layers(Graph& graph) : b_(graph) {}

  Expr convolution(Expr x, std::int64_t filters, std::int64_t side) {
    const std::int64_t pad = side / 2;
    return b_.op("Conv", {x, weights({filters, x.shape()[1], side, side}), weights({filters})},
                 {{"pads", std::vector<std::int64_t>{pad, pad, pad, pad}}});
  }
  Expr upward(Expr x, std::int64_t filters) {
    return b_.op("ConvTranspose", {x, weights({x.shape()[1], filters, 2, 2}), weights({filters})},
                 {{"strides", std::vector<std::int64_t>{2, 2}}});
  }
  Expr resized(Expr x, std::int64_t filters) {
    const Expr scales = b_.constant(Tensor::of(std::vector<float>{1, 1, 2, 2}));
    return convolution(
        b_.op("Resize", {x, Expr(), scales},
              {{"mode", std::string("linear")}, {"coordinate_transformation_mode", std::string("half_pixel")}}),
        filters, 1);
  }
  /// Convolution, normalization, ReLU.
  Expr block(Expr x, std::int64_t filters) {
    const Expr y = convolution(x, filters, 3);
    std::vector<Expr> in{y, weights({filters}), weights({filters}), weights({filters}), weights({filters})};
    return b_.op("Relu", {b_.op("BatchNormalization", in)});
  }
  Expr pooled(Expr x) {
    return b_.op("MaxPool", {x},
                 {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"strides", std::vector<std::int64_t>{2, 2}}});
  }
  Expr weights(const Shape& shape) {
    Tensor values(DType::f32, shape);
    std::ranges::fill(values.span<float>(), 0.5F);
    const Expr made = b_.constant(values, "layer" + std::to_string(count_++) + ".weight");
    b_.graph()[made.id()].is_initializer = true;
    return made;
  }

 private:
  Builder b_;
  int count_ = 0;
};

Model unet(Expr (Layers::*up)(Expr, std::int64_t)) {
  constexpr std::int64_t kBatch = 2, kSide = 32, kClasses = 3;
  Model model{{}, kBatch, {.label_shape = {kBatch, kSide, kSide}}, "adamw"};
  Graph& g = model.graph;
  g.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(g);
  Layers layers(g);
  const Expr x = b.expr(g.add_input("x", DType::f32, {kBatch, 3, kSide, kSide}));
  const Expr first = layers.block(layers.block(x, 8), 8), second = layers.block(layers.pooled(first), 16),
             third = layers.block(layers.pooled(second), 32);
  const auto joined = [&](Expr deep, Expr skip, std::int64_t filters) {
    return layers.block(b.op("Concat", {skip, (layers.*up)(deep, filters)}, {{"axis", std::int64_t{1}}}), filters);
  };
  const Expr y = layers.convolution(joined(joined(third, second, 16), first, 8), kClasses, 1);
  g.outputs = {y.id()};
  return model;
}

/// Of operators that only other ones have kernels for.
Model written_out() {
  constexpr std::int64_t kBatch = 4, kSide = 8, kClasses = 5;
  Model model{{}, kBatch, {.label_shape = {kBatch}}, "adamw"};
  Graph& g = model.graph;
  g.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(g);
  Layers layers(g);
  const Expr x = b.expr(g.add_input("x", DType::f32, {kBatch, 3, kSide, kSide}));
  const Expr local = b.op("LRN", {layers.convolution(x, 8, 3)}, {{"size", std::int64_t{4}}});
  const Expr even = b.op("MeanVarianceNormalization", {layers.convolution(local, 8, 3)});
  const Expr unit = b.op("LpNormalization", {b.reshape(even, {kBatch, 8, kSide * kSide})});
  const Expr alike = b.op("Einsum", {unit, unit}, {{"equation", std::string("bcp,bdp->cbd")}});
  const Expr y = b.op("Einsum", {alike, layers.weights({8, 8, kClasses})}, {{"equation", std::string("cbd,cdk->bk")}});
  g.outputs = {y.id()};
  return model;
}

/// Of convolutions between normalizations of groups of channels, and of each channel by itself, with noise.
Model normalized() {
  constexpr std::int64_t kBatch = 2, kSide = 8, kClasses = 5;
  Model model{{}, kBatch, {.label_shape = {kBatch}}, "adamw"};
  Graph& g = model.graph;
  g.opsets = {{"", kOnnxOpset}, {std::string(kOwnDomain), kOwnOpset}};
  Builder b(g);
  Layers layers(g);
  const auto normal = [&](const char* op, const Expr& x, Attributes attributes) {
    return b.op("Relu", {b.op(op, {x, layers.weights({8}), layers.weights({8})}, std::move(attributes))});
  };
  const Expr x = b.expr(g.add_input("x", DType::f32, {kBatch, 3, kSide, kSide}));
  const Expr grouped = normal("GroupNormalization", layers.convolution(x, 8, 3), {{"num_groups", std::int64_t{2}}});
  const Expr noisy = grouped + b.op("RandomNormalLike", {grouped}) * 0.1;
  const Expr single = normal("InstanceNormalization", layers.convolution(noisy, 8, 3), {});
  const Expr pooled = b.op("GlobalAveragePool", {layers.convolution(single, 8, 3)});
  g.outputs = {b.op("MatMul", {b.reshape(pooled, {kBatch, 8}), layers.weights({8, kClasses})}).id()};
  return model;
}

Model model_of(const std::string& name) {
  if (name == "normalized") return normalized();
  if (name == "written-out") return written_out();
  if (name == "unet") return unet(&Layers::upward);
  if (name == "unet-resize") return unet(&Layers::resized);
  return zoo_model(name);
}

}  // namespace

std::vector<std::string> step_names() {
  std::vector<std::string> names{"normalized", "unet", "unet-resize", "written-out"};
  for (const fs::directory_entry& folder : fs::directory_iterator(zoo())) names.push_back(folder.path().filename());
  std::ranges::sort(names);
  return names;
}

Graph training_step(const std::string& name, DType precision, const Capabilities& capabilities) {
  const Model model = model_of(name);
  StepOptions options{.shapes = {.by_name = {}, .batch = model.batch}, .precision = precision};
  options.loss.terms = {model.loss};
  options.optimizer.name = model.optimizer;
  const PreparedModel prepared(model.graph, {.parameters = ParameterSelection{}});
  return prepared.lower(Purpose::training, options, capabilities);
}

}  // namespace halfstep::cudnn
