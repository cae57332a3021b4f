// Trains a model step by step with a custom training loop, and writes the trained model.
// usage: step MODEL.onnx X.npy Y.npy TRAINED.onnx
#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <utility>

#include <halfstep/halfstep.h>

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: step MODEL.onnx X.npy Y.npy TRAINED.onnx\n";
    return 2;
  }
  try {
    const auto executor = halfstep::make_executor("auto", {});
    halfstep::LoadedModel model = halfstep::load_model(argv[1]);
    const std::string input = model.graph[model.graph.inputs.at(0)].name;
    halfstep::TrainingStepOptions options;
    options.optimizer.name = "adam";
    halfstep::TrainingStep step(std::move(model), *executor, options);

    const halfstep::Tensor x = halfstep::open_array(argv[2]).load(), y = halfstep::open_array(argv[3]).load();
    constexpr std::int64_t kBatch = 32;
    for (std::int64_t row = 0, n = 1; row < x.shape()[0]; row += kBatch, ++n) {
      const std::int64_t last = std::min(row + kBatch, x.shape()[0]);
      step.set_learning_rate(1e-3 * std::min(1.0, static_cast<double>(n) / 10));  // a custom schedule
      const halfstep::StepReport report = step.run({{input, x.rows(row, last)}, {"labels", y.rows(row, last)}});
      if (!report.updated) std::cout << "step " << n << " was skipped\n";
      if (n % 10 == 1) std::cout << "step " << n << ": loss " << report.loss << '\n';
    }
    step.save(argv[4]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
