// A model with two outputs, each with its own labels and loss.
// usage: two_heads
#include <cstdint>
#include <exception>
#include <iostream>
#include <vector>

#include <halfstep/halfstep.h>

namespace {

constexpr const char* kModel = R"(
  <ir_version: 10, opset_import: ["": 20]> two_heads (float[N, 3] x) => (float[N, 2] boxes, float[N, 3] scores)
  <float[3, 4] w = {0.5, -0.2, 0.7, 0.1, -0.5, 0.3, 0.2, -0.1, 0.9, 0.4, -0.6, 0.2},
   float[4, 2] v = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6},
   float[4, 3] u = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6, 0.1, -0.2, 0.4, 0.3}>
  { h = MatMul(x, w) r = Tanh(h) boxes = MatMul(r, v) scores = MatMul(r, u) })";

}  // namespace

int main() {
  try {
    const auto executor = halfstep::make_executor("auto", {});
    halfstep::TrainingStepOptions options;
    options.loss = halfstep::LossOptions{
        .terms = {{.loss = "l1", .output = "boxes", .labels = "true_boxes", .weight = 5},
                  {.loss = "softmax_cross_entropy", .output = "scores", .labels = "true_classes"}}};
    options.learning_rate = 0.05;
    halfstep::TrainingStep step(halfstep::parse_model(kModel), *executor, options);

    const std::vector<float> x = {1, 0, 0, 0, 1, 0, 0, 0, 1}, boxes = {0, 1, 1, 0, 0.5f, 0.5f};
    const halfstep::NamedTensors batch = {{"x", halfstep::Tensor::of(x, {3, 3})},
                                          {"true_boxes", halfstep::Tensor::of(boxes, {3, 2})},
                                          {"true_classes", halfstep::Tensor::of<std::int64_t>({2, 0, 1})}};
    for (int n = 1; n <= 200; ++n) {
      const halfstep::StepReport report = step.run(batch);
      if (n == 1 || n == 200)
        std::cout << "step " << n << ": loss " << report.loss << ", boxes " << report.terms.at(0) << ", scores "
                  << report.terms.at(1) << '\n';
    }
    halfstep::Metrics accuracy = step.metrics(halfstep::parse_metrics("accuracy"), 1);
    step.evaluate(batch);
    step.measure(accuracy, batch, 1);
    std::cout << "accuracy of the scores " << accuracy.value(0) << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
