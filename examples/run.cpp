// Runs a model on one array, and writes its first output.
// usage: run MODEL.onnx INPUT.npy OUTPUT.npy
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
    // A program is compiled once for each set of input shapes, and reused by later runs.
    halfstep::Session session(halfstep::load_model(argv[1]).graph, *executor);
    const halfstep::Tensor x = halfstep::open_array(argv[2]).load();
    const halfstep::NamedTensors outputs = session.run({{session.inputs().at(0).name, x}});
    halfstep::write_npy(argv[3], outputs.at(session.outputs().at(0).name));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
