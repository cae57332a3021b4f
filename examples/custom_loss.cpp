// A custom loss, and gradients that are read and changed before the update.
// usage: custom_loss MODEL.onnx X.npy Y.npy
#include <algorithm>
#include <cmath>
#include <exception>
#include <iostream>
#include <string>
#include <utility>

#include <halfstep/halfstep.h>

namespace {

/// Softmax cross-entropy plus 0.01 times the mean square of the scores. It is differentiated like the model.
halfstep::Expr loss(halfstep::Builder& b, const halfstep::NamedExprs& outputs, const halfstep::NamedExprs& labels) {
  const halfstep::Expr scores = outputs.begin()->second;
  const halfstep::Expr entropy =
      b.multi("SoftmaxCrossEntropyLoss", halfstep::kOnnxDomain, {scores, labels.at("y")}, 2).at(0);
  const halfstep::Expr square = b.op("ReduceMean", {scores * scores}, {{"keepdims", std::int64_t{0}}});
  return entropy + square * 0.01;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: custom_loss MODEL.onnx X.npy Y.npy\n";
    return 2;
  }
  try {
    const auto executor = halfstep::make_executor("auto", {});
    halfstep::LoadedModel model = halfstep::load_model(argv[1]);
    const std::string input = model.graph[model.graph.inputs.at(0)].name;
    const halfstep::Tensor x = halfstep::open_array(argv[2]).load(), y = halfstep::open_array(argv[3]).load();

    halfstep::TrainingStepOptions options;
    options.loss = halfstep::LossOptions{.terms = {}, .function = {.write = loss}};
    options.optimizer.name = "sgd";
    options.learning_rate = 0.1;
    halfstep::TrainingStep step(std::move(model), *executor, options);
    for (int n = 1; n <= 20; ++n) {
      const halfstep::StepReport report = step.forward_backward({{input, x}, {"y", y}});
      // Clips each gradient separately.
      halfstep::NamedTensors gradients = step.gradients();
      for (auto& [name, gradient] : gradients) {
        double norm = 0;
        for (const float g : gradient.span<float>()) norm += static_cast<double>(g) * g;
        const double factor = std::min(1.0, 0.5 / std::sqrt(norm + 1e-12));
        for (float& g : gradient.span<float>()) g = static_cast<float>(g * factor);
      }
      step.set_gradients(gradients);
      step.update();
      if (n == 1 || n == 20) std::cout << "step " << n << ": loss " << report.loss << '\n';
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
