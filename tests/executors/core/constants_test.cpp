// Programs that have the same constants hold them once.
#include "executors/core/constants.h"

#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/executors/core/core_testing.h"
#include <halfstep/executors/executor.h>

namespace halfstep::core {
namespace {

const Shape kLarge{16, 32};

Tensor numbers(float first, const Shape& shape = kLarge) {
  Tensor tensor(DType::f32, shape);
  std::iota(tensor.span<float>().begin(), tensor.span<float>().end(), first);
  return tensor;
}

TEST(Constants, WithTheSameElementsAreOne) {
  Constants constants;
  const std::shared_ptr<Tensor> one = constants.shared(numbers(1));
  EXPECT_EQ(constants.shared(numbers(1)), one);
  EXPECT_EQ(constants.shared(*one), one);
  EXPECT_NE(constants.shared(numbers(2))->raw(), one->raw());
  EXPECT_NE(constants.shared(numbers(1, {32, 16}))->raw(), one->raw()) << "the shape is another";
  EXPECT_NE(constants.shared(Tensor::scalar(1.0F)), constants.shared(Tensor::scalar(1.0F))) << "too small to look for";
}

TEST(Constants, AreGoneWithTheLastWhoHasThem) {
  Constants constants;
  std::weak_ptr<Tensor> seen;
  {
    const std::shared_ptr<Tensor> one = constants.shared(numbers(1));
    seen = one;
    const Operand as{kNoBuffer, DType::f32, kLarge, Layout(), Space::device};
    int made = 0;
    const auto make = [&] {
      ++made;
      return std::make_shared<int>(made);
    };
    const auto first = constants.copied(*one, *host_device(), as, make);
    EXPECT_EQ(constants.copied(*one, *host_device(), as, make), first);
    EXPECT_EQ(made, 1);
    Operand half = as;
    half.dtype = DType::bf16;
    EXPECT_NE(constants.copied(*one, *host_device(), half, make), first);
    const ApartDevice other;
    EXPECT_NE(constants.copied(*one, other, as, make), first);
    EXPECT_EQ(made, 3);
  }
  EXPECT_TRUE(seen.expired());
}

TEST(Constants, OfSeveralThreadsAreOne) {
  Constants constants;
  constexpr int kThreads = 8, kRounds = 200, kTensors = 5;
  const Operand as{kNoBuffer, DType::f32, kLarge, Layout(), Space::device};
  std::vector<std::shared_ptr<Tensor>> keep;  // of every second one; the others come and go
  for (int t = 0; t < kTensors; t += 2) keep.push_back(constants.shared(numbers(static_cast<float>(t))));
  std::vector<std::jthread> threads;
  std::vector<int> wrong(kThreads, 0);
  for (int thread = 0; thread < kThreads; ++thread)
    threads.emplace_back([&, thread] {
      for (int round = 0; round < kRounds; ++round) {
        const int t = (round + thread) % kTensors;
        const Tensor own = numbers(static_cast<float>(t));
        const std::shared_ptr<Tensor> tensor = constants.shared(own);
        const auto copy = std::static_pointer_cast<Tensor>(
            constants.copied(*tensor, *host_device(), as, [&] { return std::make_shared<Tensor>(tensor->clone()); }));
        wrong[thread] += !identical(*tensor, own) || !identical(*copy, own);
        if (t % 2 == 0) wrong[thread] += tensor != keep[static_cast<std::size_t>(t / 2)];
      }
    });
  threads.clear();  // they have ended
  EXPECT_EQ(wrong, std::vector<int>(kThreads, 0));
}

TEST(Constants, ThatShareElementsInOtherShapesHaveOtherCopies) {
  Constants constants;
  const Tensor elements = numbers(1);
  const std::shared_ptr<Tensor> a = constants.shared(elements), b = constants.shared(elements.reshaped({32, 16}));
  EXPECT_NE(a, b);
  EXPECT_EQ(a->raw(), b->raw());
  const auto copy_of = [&](const Tensor& tensor) {
    const Operand as{kNoBuffer, DType::f32, tensor.shape(), Layout(), Space::device};
    return constants.copied(tensor, *host_device(), as, [] { return std::make_shared<int>(); });
  };
  const auto first = copy_of(*a);
  EXPECT_NE(copy_of(*b), first);
  EXPECT_EQ(copy_of(*a), first);
}

class CountingDevice final : public ApartDevice {
 public:
  void move(DType dtype, const Shape& shape, const Stored& from, const Stored& to) override {
    ++moves;
    ApartDevice::move(dtype, shape, from, to);
  }
  int moves = 0;
};

TEST(Constants, ACopyForTheDeviceIsMadeForTheFirstProgram) {
  const auto device = std::make_shared<CountingDevice>();
  const auto executor = make_executor({"apart", {}, {{"Add", kOnnxDomain, {make_add<true>}}}, device});
  const auto compiled = [&] {
    Graph graph;
    const ValueId x = graph.add_input("x", DType::f32, kLarge), c = graph.add_constant("c", numbers(3));
    const std::size_t node = graph.add_node("Add", kOnnxDomain, {x, c}, 1);
    const ValueId y = graph.nodes[node].outputs[0];
    graph[y].dtype = DType::f32;
    graph[y].shape = kLarge;
    graph.outputs = {y};
    const auto store = executor->make_store();
    return executor->compile(graph, *store);
  };
  auto first = compiled();
  EXPECT_EQ(device->moves, 1);
  const auto second = compiled();
  EXPECT_EQ(device->moves, 1);
  first.reset();
  second->run();
  EXPECT_TRUE(identical(second->output(0), numbers(3))) << "of inputs of zeros";
  compiled();
  EXPECT_EQ(device->moves, 1) << "the second still has it";
}

}  // namespace
}  // namespace halfstep::core
