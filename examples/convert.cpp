// Converts a model to half precision, and prints a summary.
// usage: convert MODEL.onnx HALF.onnx [fp16|bf16]
#include <exception>
#include <iostream>
#include <string_view>

#include <halfstep/halfstep.h>

int main(int argc, char** argv) {
  const std::string_view precision = argc == 4 ? argv[3] : "fp16";
  if (argc < 3 || argc > 4 || (precision != "fp16" && precision != "bf16")) {
    std::cerr << "usage: convert MODEL.onnx HALF.onnx [fp16|bf16]\n";
    return 2;
  }
  try {
    halfstep::ConvertOptions options;
    options.half = precision == "bf16" ? halfstep::DType::bf16 : halfstep::DType::f16;
    options.keep_io_types = true;
    const halfstep::Conversion conversion = halfstep::convert(halfstep::ModelFile::open(argv[1]), options);
    conversion.save(argv[2]);

    const halfstep::ConversionReport& report = conversion.report();
    std::cout << report.half_nodes() << " nodes in " << precision << ", " << report.f32_nodes() << " in fp32\n";
    for (const std::string& warning : report.warnings) std::cout << warning << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
