// NVIDIA's own cuDNN, which describes tensors without a device, computes from halfstep's descriptors the extents that
// ONNX's shape inference gives.
#include "executors/cudnn/descriptors.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/executors/cudnn/op_cases.h"

namespace halfstep::cudnn {
namespace {

/// [N, C, L] as [N, C, 1, L].
std::vector<int> as_cudnn(const Shape& shape) {
  std::vector<int> dims(shape.begin(), shape.end());
  if (dims.size() == 3) dims.insert(dims.begin() + 2, 1);
  return dims;
}

/// Graphs of the cases of these operators that cuDNN is to take.
std::vector<Graph> graphs_of(std::initializer_list<std::string_view> operators) {
  std::vector<Graph> graphs;
  for (const OpTest& test : op_tests()) {
    if (test.kernel != "cudnn" || std::ranges::find(operators, test.op) == operators.end()) continue;
    std::vector<Tensor> values;
    graphs.push_back(make_graph(test, DType::f16, values, 1));
  }
  return graphs;
}

TEST(Descriptors, PoolingHasTheExtentsOfOnnx) {
  const std::vector<Graph> graphs = graphs_of({"MaxPool", "AveragePool"});
  EXPECT_FALSE(graphs.empty());
  for (const Graph& g : graphs) {
    const Node& node = g.nodes[0];
    const Value &x = g[node.inputs[0]], &y = g[node.outputs[0]];
    const ops::Window window =
        ops::make_window(node.attributes, ops::spatial(x.shape), node.attributes.get_ints("kernel_shape"));
    const auto x_desc = tensor_descriptor(x.dtype, x.shape);
    const auto pool = pooling_descriptor(CUDNN_POOLING_MAX_DETERMINISTIC, window, x.shape.rank());
    std::vector<int> found(as_cudnn(y.shape).size());
    ASSERT_EQ(cudnnGetPoolingNdForwardOutputDim(pool.get(), x_desc.get(), static_cast<int>(found.size()), found.data()),
              CUDNN_STATUS_SUCCESS);
    EXPECT_EQ(found, as_cudnn(y.shape)) << to_text(g);
  }
}

TEST(Descriptors, ARefusedCallIsAnErrorWithItsName) {
  try {
    check(cudnnSetTensorNdDescriptor(tensor_descriptor(DType::f32, {1, 1, 2, 2}).get(), CUDNN_DATA_FLOAT, 0, nullptr,
                                     nullptr),
          "cudnnSetTensorNdDescriptor");
    FAIL() << "nothing was thrown";
  } catch (const std::exception& e) {
    EXPECT_NE(std::string(e.what()).find("cudnnSetTensorNdDescriptor"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("CUDNN_STATUS_BAD_PARAM"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace halfstep::cudnn
