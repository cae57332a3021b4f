// Imports a model, trains it for three steps, converts it to half precision, and saves both.
// usage: consumer MODEL.onnx DATA OUTPUT_FOLDER
#include <cmath>
#include <exception>
#include <filesystem>
#include <iostream>
#include <utility>
#include <vector>

#include <halfstep.h>

namespace {

std::vector<float> train(const std::filesystem::path& model_file, const char* data_spec,
                         const std::filesystem::path& output) {
  const halfstep::LoadedModel model = halfstep::load_model(model_file);
  const auto executor = halfstep::make_executor("onednn", {});
  halfstep::Dataset data = halfstep::open_dataset(halfstep::parse_data_spec(data_spec));

  halfstep::TrainerOptions options;
  options.steps = 3;
  options.precision = halfstep::Precision::fp32;
  halfstep::Trainer trainer(model, *executor, data, std::move(options));
  std::vector<float> losses;
  halfstep::TrainerCallbacks callbacks;
  callbacks.on_step = [&](const halfstep::StepResult& result) { losses.push_back(result.loss); };
  trainer.fit(callbacks);
  halfstep::save_trained(*model.source, trainer.parameters(), output);
  return losses;
}

void convert(const std::filesystem::path& model_file, const std::filesystem::path& output) {
  const halfstep::ModelFile model = halfstep::ModelFile::open(model_file);
  halfstep::convert(model, {.half = halfstep::DType::f16, .keep_io_types = true}).save(output);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: consumer MODEL.onnx DATA OUTPUT_FOLDER\n";
    return 2;
  }
  try {
    const std::filesystem::path folder = argv[3], trained = folder / "trained.onnx",
                                half = folder / "trained_fp16.onnx";
    const std::vector<float> losses = train(argv[1], argv[2], trained);
    convert(trained, half);
    for (const float loss : losses) std::cout << "loss " << loss << '\n';

    const bool trained_well = losses.size() == 3 && std::isfinite(losses[2]) && losses[2] < losses[0];
    const bool converted = std::filesystem::file_size(half) < 0.6 * std::filesystem::file_size(trained);
    if (!trained_well) std::cerr << "the loss did not fall in three steps\n";
    if (!converted) std::cerr << "the half-precision model is not half the size\n";
    return trained_well && converted ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
