// Trains a model on data in files, and writes the trained model.
// usage: train MODEL.onnx DATA TRAINED.onnx [STEPS]
// DATA is X.npy,Y.npy, a folder of IDX files, FILE.npz or FILE.csv.
#include <exception>
#include <iostream>
#include <string>

#include <halfstep/halfstep.h>

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    std::cerr << "usage: train MODEL.onnx DATA TRAINED.onnx [STEPS]\n";
    return 2;
  }
  try {
    const auto executor = halfstep::make_executor("auto", {});
    const halfstep::LoadedModel model = halfstep::load_model(argv[1]);
    const halfstep::Dataset data = halfstep::open_dataset(halfstep::parse_data_spec(argv[2]));

    halfstep::TrainerOptions options;
    options.epochs = 1;
    if (argc == 5) options.steps = std::stoll(argv[4]);
    halfstep::Trainer trainer(model, *executor, data, options);

    halfstep::TrainerCallbacks callbacks;
    callbacks.on_step = [](const halfstep::StepResult& result) {
      if (result.step % 100 == 1) std::cout << "step " << result.step << ": loss " << result.loss << '\n';
    };
    callbacks.on_epoch_end = [](const halfstep::StepResult& last, const halfstep::Evaluation*) {
      std::cout << "mean loss " << last.mean_loss << '\n';
    };
    trainer.fit(callbacks);
    halfstep::save_trained(*model.source, trainer.parameters(), argv[3]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
