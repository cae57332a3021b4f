// Runs a model on one array, and writes its first output.
// usage: run MODEL.onnx INPUT.npy OUTPUT.npy
#include <cstring>
#include <exception>
#include <iostream>

#include <halfstep/halfstep.h>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: run MODEL.onnx INPUT.npy OUTPUT.npy\n";
    return 2;
  }
  try {
    const auto executor = halfstep::make_executor("auto", {});
    const halfstep::Graph model = halfstep::load_model(argv[1]).graph;
    const halfstep::Tensor x = halfstep::open_array(argv[2]).load();

    // A program is compiled for the shapes of its inputs, once for as many runs as are wanted.
    halfstep::StepOptions options;
    options.shapes.by_name[model[model.inputs.at(0)].name] = x.shape();
    const halfstep::Graph graph =
        halfstep::PreparedModel(model).lower(halfstep::Purpose::inference, options, executor->capabilities());
    const auto store = executor->make_store();
    const auto program = executor->compile(graph, *store);

    halfstep::Tensor input = program->input(0);
    if (input.dtype() != x.dtype())
      halfstep::throw_input_error("an array of " + std::string(name_of(input.dtype())), std::string(name_of(x.dtype())),
                                  "convert it first");
    std::memcpy(input.raw(), x.raw(), x.bytes());
    program->run();
    halfstep::write_npy(argv[3], program->output(0));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
