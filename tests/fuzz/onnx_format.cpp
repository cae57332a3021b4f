#include <onnx/onnx_pb.h>

#include "onnx_io/convert.h"
#include "tests/fuzz/formats.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>

namespace halfstep::fuzz {
namespace {

void read_onnx(std::string_view bytes) {
  try {
    load_model_from_bytes(bytes);
  } catch (const Error&) {
    return;
  }
}

std::vector<std::string> onnx_seeds() {
  std::vector<std::string> seeds;
  for (const char* text : {
           R"(<ir_version: 10, opset_import: ["": 20]> g (float[N,2] x) => (float[N,3] y)
              <float[2,3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {0, 1, 2}> { h = Gemm(x, w, b) y = Relu(h) })",
           R"(<ir_version: 10, opset_import: ["": 20]> g (float[1,1,5,5] x) => (float[1,6] y)
              <float[2,1,3,3] w = {1,1,1,1,1,1,1,1,1,2,2,2,2,2,2,2,2,2}, int64[2] s = {1, -1}, int64[2] p = {1, 6}>
              { c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) a = MaxPool<kernel_shape = [2, 2]>(c)
                r = Reshape(a, s) t = Tile(r, p) u, v, q = Split<axis = 1, num_outputs = 3>(t) y = Concat<axis = 1>(u, v, q) })",
           R"(<ir_version: 10, opset_import: ["": 20]> g (float[3] x, bool c) => (float[3] y, float[3] z)
              <int64 n = {2}, bool yes = {1}>
              { y = If(c) <then_branch = t () => (float[3] a) { a = Neg(x) }, else_branch = e () => (float[3] b) { b = Abs(x) }>
                z = Loop(n, yes, x) <body = l (int64 i, bool k, float[3] s) => (bool k2, float[3] s2)
                { k2 = Identity(k) s2 = Add(s, s) }> })",
       }) {
    seeds.push_back(to_proto(parse_model(text).graph).SerializeAsString());
  }
  return seeds;
}

}  // namespace

const Format onnx_format{"onnx", read_onnx, onnx_seeds};

}  // namespace halfstep::fuzz
