// Trains on rows from a custom source, which may generate them, read them from a database, or decode them.
// usage: rows
#include <cmath>
#include <cstdint>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <span>
#include <string>

#include <halfstep/halfstep.h>

namespace {

constexpr const char* kModel = R"(
  <ir_version: 10, opset_import: ["": 20]> sine (float[N, 1] x) => (float[N, 1] y)
  <float[1, 8] w = {0.5, -0.2, 0.7, 0.1, -0.5, 0.3, 0.9, -0.8}, float[8] b = {0, 0.1, -0.2, 0.3, 0, -0.1, 0.2, -0.3},
   float[8, 1] v = {0.3, -0.4, 0.8, 0.1, -0.7, 0.5, 0.2, 0.6}>
  { h = Gemm(x, w, b) r = Tanh(h) y = MatMul(r, v) })";

/// A thousand points of a sine function.
class Sine : public halfstep::RowSource {
 public:
  std::int64_t rows() const override { return 1000; }

  std::map<std::string, halfstep::RowType> types() const override {
    const halfstep::RowType one{halfstep::DType::f32, {1}};
    return {{"x", one}, {"labels", one}};
  }

  // Called by a prefetching thread for the rows of a batch, in the order of the epoch.
  void read(std::span<const std::int64_t> rows, const halfstep::RowDraw&, halfstep::NamedTensors& out) override {
    for (auto& [name, tensor] : out) {
      float* to = tensor.data<float>();
      for (const std::int64_t row : rows) {
        const double x = static_cast<double>(row) / 500 - 1;
        *to++ = static_cast<float>(name == "x" ? x : std::sin(3 * x));
      }
    }
  }
};

}  // namespace

int main() {
  try {
    const auto executor = halfstep::make_executor("auto", {});
    const halfstep::Dataset data(std::make_shared<Sine>());
    halfstep::TrainerOptions options;
    options.losses = {{"mean_squared_error"}};
    options.schedule.base_lr = 0.02;
    halfstep::Trainer trainer(halfstep::parse_model(kModel), *executor, data, options);
    halfstep::TrainerCallbacks callbacks;
    callbacks.on_epoch_end = [](const halfstep::StepResult& last, const halfstep::Evaluation*) {
      std::cout << "epoch " << last.epoch << ": mean loss " << last.mean_loss << '\n';
    };
    trainer.fit(callbacks);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
