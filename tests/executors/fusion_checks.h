// Every fusion that an executor offers, against what it stands for: forward, and where it is trained through.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "passes/step/step_values.h"
#include "tests/executors/onednn_testing.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/ops/infer.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep::testing::fusions {

inline Graph parse(const std::string& text) {
  Graph graph = parse_model("<ir_version: 10, opset_import: [\"\": 28, \"ai.halfstep\": 1]> fused " + text).graph;
  infer_graph(graph);
  return graph;
}

/// A model that ends with the operator `op` of ai.onnx, or with the own one: `a` is its result.
struct Scene {
  std::string op;
  std::string inputs, result_shape, constants, node;  ///< T in them is the type
  std::vector<std::string> parameters;  ///< among the constants; none: the operator is not trained through
  Shape x, y;
};

inline std::vector<Scene> scenes() {
  return {
      {"Gemm",
       "T[N,3] x",
       "N,4",
       "T[3,4] w = {0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75}, T[4] b = {0.1, -0.2, 0.3, 0}",
       "a = Gemm(x, w, b)",
       {"w", "b"},
       {5, 3},
       {5, 4}},
      {"MatMul",
       "T[N,3] x",
       "N,4",
       "T[3,4] w = {0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75}",
       "a = MatMul(x, w)",
       {"w"},
       {5, 3},
       {5, 4}},
      {"Attention",
       "T[N,3,4] x",
       "N,3,4",
       "T[4,4] w = {0.5, -1, 0.25, 1, -0.5, 1, 0.75, -0.25, 1, 0.5, -1, -0.75, 0.25, 0.5, -0.5, 1}",
       "h = MatMul(x, w) a = Attention<q_num_heads = 2, kv_num_heads = 2>(h, x, h)",
       {"w"},
       {2, 3, 4},
       {2, 3, 4}},
      {"Conv",
       "T[N,2,4,4] x",
       "N,2,4,4",
       "T[2,2,1,1] w = {0.5, -1, 0.25, 1}, T[2] b = {0.1, -0.2}",
       "a = Conv(x, w, b)",
       {"w", "b"},
       {2, 2, 4, 4},
       {2, 2, 4, 4}},
      {"BatchNormalization",
       "T[N,3,4,4] x",
       "N,3,4,4",
       "T[3] s = {1, 0.5, 2}, T[3] b = {0.5, 0, -0.5}, T[3] m = {0.1, 0, -0.1}, T[3] v = {1, 0.5, 2}",
       "a = BatchNormalization(x, s, b, m, v)",
       {"s", "b"},
       {2, 3, 4, 4},
       {2, 3, 4, 4}},
      {"ConvGradWeight",
       "T[2,3,4,4] dy, T[2,2,4,4] x",
       "3,2,1,1",
       "",
       "a = ai.halfstep.ConvGradWeight<weight_shape = [3, 2, 1, 1]>(dy, x)",
       {},
       {},
       {}},
  };
}

/// The forms of an activation, with `a` as operand and `y` as result.
inline std::vector<std::string> forms_of(const std::string& activation) {
  if (activation == "Relu") return {"y = Relu(a)"};
  if (activation == "Gelu") return {"y = Gelu(a)", "y = Gelu<approximate = \"tanh\">(a)"};
  if (activation == "Clip") return {"y = Clip(a, low, high)", "y = Clip(a, low)", "y = Clip(a, , high)"};
  ADD_FAILURE() << "no graph for the activation " << activation;
  return {};
}

/// All that a fusion takes behind its operator.
inline std::vector<std::string> forms_behind(const Fusion& fusion) {
  std::vector<std::string> all;
  if (fusion.adds) all.push_back("y = Add(a, x)");
  for (const std::string& activation : fusion.activations)
    for (std::string& form : forms_of(activation)) all.push_back(std::move(form));
  return all;
}

inline std::string with_type(std::string text, const std::string& type) {
  for (std::size_t at = text.find("T["); at != std::string::npos; at = text.find("T[", at + type.size()))
    text.replace(at, 1, type);
  return text;
}

/// The model as ONNX text, its operands of `type`, its result f32. ONNX's text form has no constants of a half type:
/// those are inputs.
inline std::string model_of(const Scene& scene, const std::string& type, const std::string& nodes) {
  std::string inputs = scene.inputs, constants = "float low = {-0.25}, float high = {0.5}";
  if (type == "float" && !scene.constants.empty())
    constants = scene.constants + ", " + constants;
  else if (!scene.constants.empty())
    inputs += ", " + std::regex_replace(scene.constants, std::regex(" = \\{[^}]*\\}"), "");
  return fmt::format("({}) => (float[{}] y) <{}> {{ {} {} }}", with_type(inputs, type), scene.result_shape,
                     with_type(constants, type), scene.node, nodes);
}

/// Of nodes that only a training step has side by side: no operator and what follows it.
inline bool is_of_training(const Fusion& fusion) { return fusion.op.empty() && !fusion.widens; }

inline const Scene* scene_of(const Fusion& fusion) {
  static const std::vector<Scene> all = scenes();
  const std::string& op = fusion.op.empty() ? fusion.fused : fusion.op;
  const auto found = std::find_if(all.begin(), all.end(), [&](const Scene& scene) { return scene.op == op; });
  if (found == all.end()) ADD_FAILURE() << "no graph with " << op << ", which an executor fuses";
  return found == all.end() ? nullptr : &*found;
}

/// What a graph gives on one executor for numbers drawn at random.
inline std::vector<Tensor> outputs_of(Executor& executor, const Graph& graph) {
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(graph, *store);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const Value& in = graph[graph.inputs[i]];
    set_input(*program, i, random_tensor(in.dtype, in.shape, static_cast<unsigned>(i + 1), -2, 2));
  }
  program->run();
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) outputs.push_back(program->output(i).clone());
  return outputs;
}

/// `nodes` behind the scene's operator become one node with it, which gives what they give apart.
inline void expect_fused(Executor& executor, const Scene& scene, const Fusion& fusion, const std::string& type,
                         const std::string& nodes, double tolerance) {
  SCOPED_TRACE(scene.node + " " + nodes + " in " + type);
  const Pipeline bind{bind_shapes({.by_name = {{"x", scene.x}}}), fold_constants()};
  Graph apart = parse(model_of(scene, type, nodes));
  if (scene.x.rank() > 0) apart = run_pipeline(std::move(apart), bind);
  const Graph fused = run_pipeline(apart, {fuse(executor.capabilities().fusions), remove_dead_nodes()});
  ASSERT_EQ(fused.nodes.size(), 1u) << to_text(fused);
  ASSERT_TRUE(fused.nodes[0].is_own(fusion.fused)) << to_text(fused);
  const std::unique_ptr<Executor> reference = make_reference_executor();
  const Tensor wanted = outputs_of(*reference, apart)[0];
  expect_close(outputs_of(*reference, fused)[0], wanted, tolerance, "the reference kernel");
  expect_close(outputs_of(executor, fused)[0], wanted, tolerance, std::string(executor.name()));
}

/// Each fusion, with all that it takes behind its operator and with a Cast behind that.
inline void expect_all_forward(Executor& executor) {
  for (const Fusion& fusion : executor.capabilities().fusions) {
    if (is_of_training(fusion)) continue;
    const Scene* scene = scene_of(fusion);
    if (!scene) continue;
    for (const std::string& form : forms_behind(fusion))
      expect_fused(executor, *scene, fusion, "float", form, epsilon_of(DType::f32));
    if (!fusion.widens) continue;
    // Fused, the result is not rounded to half before it is f32.
    const double tolerance = 2 * epsilon_of(DType::f16);
    expect_fused(executor, *scene, fusion, "float16", "y = Cast<to = 1>(a)", tolerance);
    for (std::string form : forms_behind(fusion))
      expect_fused(executor, *scene, fusion, "float16", form.replace(0, 1, "h") + " y = Cast<to = 1>(h)", tolerance);
  }
}

inline Graph training_step(const std::string& model, const Scene& scene, DType precision,
                           const Capabilities& capabilities) {
  StepOptions options;
  options.shapes.by_name = {{"x", scene.x}};
  options.precision = precision;
  options.loss.terms = {{.loss = "mean_squared_error", .label_dtype = DType::f32, .label_shape = scene.y}};
  options.optimizer = {.name = "sgd"};
  return run_pipeline(parse(model),
                      whole_pipeline(Purpose::training, options, capabilities, {.trainable = scene.parameters}));
}

/// What three steps of training leave: losses, then the parameters.
inline std::vector<Tensor> trained(Executor& executor, const std::string& model, const Scene& scene, DType precision,
                                   const Capabilities& capabilities) {
  const Graph graph = training_step(model, scene, precision, capabilities);
  const StepValues step(graph);
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(graph, *store);
  const auto place = [](const std::vector<ValueId>& ids, ValueId id) {
    return static_cast<std::size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin());
  };
  std::vector<Tensor> result;
  for (unsigned run = 0; run < 3; ++run) {
    set_input(*program, place(graph.inputs, step.data.at(0)), random_tensor(DType::f32, scene.x, run + 1, -2, 2));
    set_input(*program, place(graph.inputs, step.labels.at(0)), random_tensor(DType::f32, scene.y, run + 10));
    set_input(*program, place(graph.inputs, step.learning_rate), Tensor::scalar(0.1F));
    program->run();
    result.push_back(program->output(place(graph.outputs, step.loss)).clone());
  }
  for (const std::string& parameter : scene.parameters) result.push_back(store->read(parameter));
  return result;
}

/// Training with each fusion learns what training without any does.
inline void expect_all_trained(Executor& executor, DType precision, double tolerance) {
  Capabilities apart = executor.capabilities();
  apart.fusions.clear();
  for (const Fusion& fusion : executor.capabilities().fusions) {
    if (is_of_training(fusion)) continue;
    const Scene* scene = scene_of(fusion);
    if (!scene || scene->parameters.empty()) continue;
    std::vector<std::string> behind = forms_behind(fusion);
    behind.insert(behind.begin(), "y = Identity(a)");
    for (const std::string& form : behind) {
      SCOPED_TRACE(scene->node + " " + form + ", trained in " + std::string(name_of(precision)));
      const std::string model = model_of(*scene, "float", form);
      const std::vector<Tensor> wanted = trained(*make_reference_executor(), model, *scene, precision, apart);
      const std::vector<Tensor> found = trained(executor, model, *scene, precision, executor.capabilities());
      ASSERT_EQ(found.size(), wanted.size());
      for (std::size_t i = 0; i < found.size(); ++i)
        expect_close(found[i], wanted[i], tolerance, fmt::format("number {}", i));
    }
  }
}

}  // namespace halfstep::testing::fusions
