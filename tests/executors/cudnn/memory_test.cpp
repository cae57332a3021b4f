// Programs that have too little memory of the device. CUDA is emulated.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executors/cudnn/backend.h"
#include "tests/allocations.h"
#include "tests/executors/cudnn/emulated_executor.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/memory_use.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn {
namespace {

using ::testing::HasSubstr;

class DeviceMemory : public ::testing::Test {
 protected:
  ~DeviceMemory() override {
    emulation::machine() = {};
    EXPECT_EQ(emulation::live_objects(), 0);
    EXPECT_STREQ(emulation::latest_refusal(), "");
  }
};

Tensor random_tensor(Shape shape, unsigned seed) {
  std::mt19937 random(seed);
  Tensor t(DType::f32, std::move(shape));
  for (float& v : t.span<float>()) v = std::uniform_real_distribution<float>(-0.5f, 0.5f)(random);
  return t;
}

/// What compiling `graph` on the emulated machine throws.
Error refusal(const Graph& graph) {
  const auto made = emulated_executor();
  const auto store = made->make_store();
  try {
    made->compile(graph, *store);
  } catch (const Error& e) {
    return e;
  }
  return {Error::Kind::input, "nothing was thrown", "", ""};
}

/// Of `rows` rows, whose values are 4 KiB each.
Graph rows_graph(std::int64_t rows) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  Expr x = b.expr(g.add_input("x", DType::f32, {rows, 1024}));
  Expr y = b.op("Sin", {x}), z = b.op("Cos", {b.op("Transpose", {y}, {{"perm", std::vector<std::int64_t>{1, 0}}})});
  Expr w = b.expr(g.add_state("weight", random_tensor({64, 1024}, 3), StateRole::parameter));
  g.outputs = {b.reduce_sum(b.op("MatMul", {y, z}), {0, 1}, false).id(), b.reduce_sum(w, {0, 1}, false).id()};
  return g;
}

TEST_F(DeviceMemory, TooLittleMemoryNamesTheLargestTensorsAndTheBatchThatFits) {
  emulation::machine().memory = std::size_t{3} << 20;
  const Error e = refusal(rows_graph(512));
  EXPECT_EQ(e.kind(), Error::Kind::failure);
  EXPECT_THAT(e.required(), HasSubstr("a step that fits into the 3 MiB of memory of Emulated GPU"));
  EXPECT_THAT(e.found(), HasSubstr("the largest tensors are 'x' f32[512, 1024] of 2 MiB, '"));
  EXPECT_THAT(e.remedy(), HasSubstr("a batch of about "));
  const std::int64_t batch = std::stoll(e.remedy().substr(std::string("a batch of about ").size()));
  EXPECT_GT(batch, 64);
  EXPECT_EQ(refusal(rows_graph(batch / 2)).required(), "nothing was thrown");
}

TEST_F(DeviceMemory, MemoryThatOthersTakeCountsToo) {
  emulation::machine().memory = std::size_t{16} << 20;
  void* others = nullptr;
  ASSERT_EQ(cudaMalloc(&others, std::size_t{13} << 20), cudaSuccess);
  const Error e = refusal(rows_graph(512));
  ASSERT_EQ(cudaFree(others), cudaSuccess);
  EXPECT_THAT(e.found(), HasSubstr("free when memory for the values between its nodes"));
  EXPECT_THAT(e.remedy(), HasSubstr("a batch of about "));
  EXPECT_THAT(e.remedy(), HasSubstr("nvidia-smi"));
  EXPECT_EQ(refusal(rows_graph(512)).required(), "nothing was thrown");
}

/// Where the values between nodes had still fitted.
TEST_F(DeviceMemory, TooLittleMemoryForInputsThatWaitIsSaidToBeThat) {
  const auto bytes_beside = [](const Graph& graph) {
    const auto made = emulated_executor();
    const auto store = made->make_store();
    return memory_of(*made->compile(graph, *store)).value().total() - graph[graph.inputs[0]].shape.count() * 4;
  };
  const Graph graph = rows_graph(512);
  emulation::machine().memory = std::size_t{64} << 20;
  void* others = nullptr;
  ASSERT_EQ(cudaMalloc(&others, (std::size_t{64} << 20) - bytes_beside(graph) - 4096), cudaSuccess);
  const Error e = refusal(graph);
  ASSERT_EQ(cudaFree(others), cudaSuccess);
  EXPECT_THAT(e.found(), HasSubstr("free when memory for the inputs that wait for the next step, 2 MiB, was asked"));
  EXPECT_THAT(e.remedy(), HasSubstr("a batch of about "));
  EXPECT_EQ(refusal(graph).required(), "nothing was thrown");
}

TEST_F(DeviceMemory, InputsThatWaitCountBeforeMemoryIsTaken) {
  const auto made = emulated_executor();
  const Graph graph = rows_graph(512);
  const auto store = made->make_store();
  const MemoryUse use = memory_of(*made->compile(graph, *store)).value();
  emulation::machine().memory = use.total() - (std::size_t{1} << 20);
  const Error e = refusal(graph);
  EXPECT_THAT(e.found(), ::testing::Not(HasSubstr("was asked for"))) << "seen before";
  EXPECT_THAT(e.remedy(), HasSubstr("a batch of about "));
}

/// Its place is on the host: nothing is gained by memory of its own on the device.
TEST_F(DeviceMemory, WhatAnOutputIsAViewOfIsComputedInPlace) {
  Graph g;
  g.opsets = {{"", kOnnxOpset}};
  Builder b(g);
  const Expr product =
      b.op("MatMul", {b.expr(g.add_input("x", DType::f32, {64, 1})), b.expr(g.add_input("y", DType::f32, {1, 64}))});
  g.outputs = {b.reshape(b.op("Softmax", {product}, {{"axis", std::int64_t{1}}}), {4096}).id()};
  const auto made = emulated_executor();
  const auto store = made->make_store();
  EXPECT_LT(memory_of(*made->compile(g, *store)).value().live, 2 * 4096 * sizeof(float));
}

TEST_F(DeviceMemory, StatesThatDoNotFitLeaveTheStoreAsItWas) {
  emulation::machine().memory = std::size_t{16} << 20;
  void* others = nullptr;
  ASSERT_EQ(cudaMalloc(&others, (std::size_t{16} << 20) - 1000), cudaSuccess);
  const auto made = emulated_executor();
  const auto store = made->make_store();
  try {
    made->compile(rows_graph(4), *store);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_THAT(e.found(), HasSubstr("free when memory for the states and constants was asked for"));
    EXPECT_THAT(e.remedy(), HasSubstr("not even a batch of 1 fits"));
  }
  EXPECT_FALSE(store->has("weight"));
  ASSERT_EQ(cudaFree(others), cudaSuccess);
  const auto program = made->compile(rows_graph(4), *store);
  EXPECT_TRUE(identical(store->read("weight"), random_tensor({64, 1024}, 3)));
}

/// The host's memory may end anywhere.
TEST_F(DeviceMemory, IsGivenBackWhereTheHostsEnds) {
  std::string reason;
  const std::optional<core::Backend> backend = open_backend(runtime_detection_api(), {}, reason);
  ASSERT_TRUE(backend) << reason;
  const int before = emulation::live_objects();
  for (const core::Space space : {core::Space::device, core::Space::host}) {
    bool has_failed = true;
    for (long allocation = 0; has_failed; ++allocation) {
      ASSERT_LT(allocation, 100);
      {
        const halfstep::testing::FailingAllocation failing(allocation);
        try {
          backend->device->allocate(1000, space);
        } catch (const std::bad_alloc&) {
        }
        has_failed = failing.has_failed();
      }
      EXPECT_EQ(emulation::live_objects(), before) << "allocation " << allocation;
    }
  }
}

}  // namespace
}  // namespace halfstep::cudnn
