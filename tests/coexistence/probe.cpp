// What a process does with halfstep, for coexistence_test.py to call.
#include <cstring>
#include <exception>
#include <iostream>

#include <halfstep/halfstep.h>

namespace {

using namespace halfstep;

void train(const char* model_file, const char* data_spec, const char* trained) {
  const auto executor = make_executor("onednn", {});
  const LoadedModel model = load_model(model_file);
  TrainerOptions options;
  options.steps = 3;
  Trainer trainer(model, *executor, open_dataset(parse_data_spec(data_spec)), options);
  trainer.fit({});
  save_trained(*model.source, trainer.parameters(), trained);
}

void run(const char* model_file, const float* x, float* y) {
  const auto executor = make_executor("onednn", {});
  StepOptions options;
  options.shapes.batch = 1;
  const Graph graph =
      PreparedModel(load_model(model_file).graph).lower(Purpose::inference, options, executor->capabilities());
  const auto store = executor->make_store();
  const auto program = executor->compile(graph, *store);
  Tensor input = program->input(0);
  std::memcpy(input.raw(), x, input.bytes());
  program->run();
  const Tensor output = program->output(0);
  std::memcpy(y, output.raw(), output.bytes());
}

template <class Work>
int guarded(Work&& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}

}  // namespace

extern "C" HALFSTEP_API int probe_train(const char* model, const char* data, const char* trained) {
  return guarded([&] { train(model, data, trained); });
}

/// One row through the model: `x` and `y` have the elements of its first input and output.
extern "C" HALFSTEP_API int probe_run(const char* model, const float* x, float* y) {
  return guarded([&] { run(model, x, y); });
}

/// What a caller of the library catches: 1.
extern "C" HALFSTEP_API int probe_error() {
  try {
    parse_model("no model");
  } catch (const Error&) {
    return 1;
  }
  return 0;
}
