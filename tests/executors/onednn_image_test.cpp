// What networks of images add to convolutions, against the reference kernels: transposed convolutions, resizing,
// normalization in the convolutions' layouts, gradients that threads share.
#include "passes/simplify/write_out_operators.h"
#include "tests/executors/onednn_testing.h"
#include <halfstep/passes/passes.h>

namespace halfstep::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
using Ints = std::vector<std::int64_t>;

struct TransposeCase {
  Shape x, w;
  Attributes attributes;
};

TEST(OneDnnConvTranspose, AgreesWithReference) {
  const std::vector<TransposeCase> cases = {
      {{2, 6, 7, 7}, {6, 4, 4, 4}, {{"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}},
      {{2, 16, 5, 6}, {16, 32, 3, 3}, {}},
      {{1, 4, 5, 5}, {4, 3, 3, 2}, {{"strides", Ints{2, 3}}, {"output_padding", Ints{1, 2}}}},
      {{1, 8, 5, 5}, {8, 3, 3, 3}, {{"group", std::int64_t{2}}, {"dilations", Ints{2, 1}}}},
      {{2, 3, 9}, {3, 5, 4}, {{"strides", Ints{2}}, {"pads", Ints{0, 2}}}},
  };
  for (DType dtype : kFloats) {
    for (const TransposeCase& c : cases) {
      for (bool bias : {false, true}) {
        SCOPED_TRACE(c.x.to_string() + c.w.to_string() + std::string(name_of(dtype)) + (bias ? " bias" : ""));
        TestGraph t;
        std::vector<Expr> in = {t.input(dtype, c.x), t.b.cast(t.state("w", c.w), dtype)};
        if (bias) in.push_back(t.input(dtype, {c.w[1] * c.attributes.get_int("group", 1)}));
        t.output(t.b.op("ConvTranspose", in, c.attributes));
        expect_like_reference(t.graph, epsilon_of(dtype));
        Compiled compiled(make_onednn_executor(), t.graph);
        EXPECT_NE(plan_entry(*compiled.program, "ConvTranspose").kernel, "reference");
      }
    }
  }
}

TEST(OneDnnResize, AgreesWithReferenceBothWays) {
  struct Case {
    Shape x, y;
    Attributes attributes;
  };
  const std::vector<Case> cases = {
      {{2, 3, 5, 7}, {2, 3, 10, 14}, {{"mode", std::string("linear")}}},
      {{2, 3, 5, 7}, {2, 3, 3, 4}, {{"mode", std::string("linear")}, {"antialias", std::int64_t{1}}}},
      {{1, 2, 6, 5}, {1, 2, 13, 9}, {{"mode", std::string("cubic")}}},
      {{1, 2, 6, 5}, {1, 2, 13, 2}, {{"nearest_mode", std::string("floor")}}},
      {{3, 4, 9}, {3, 4, 6}, {{"mode", std::string("linear")}}},
      {{9}, {20}, {{"mode", std::string("linear")}}},
  };
  for (DType dtype : kFloats) {
    for (const Case& c : cases) {
      SCOPED_TRACE(c.x.to_string() + c.y.to_string() + std::string(name_of(dtype)));
      TestGraph t;
      Expr sizes = t.b.ints(c.y.dims());
      t.output(t.b.op("Resize", {t.input(dtype, c.x), {}, {}, sizes}, c.attributes));
      Attributes gradient = c.attributes;
      gradient.set("input_shape", c.x.dims());
      t.output(t.b.own("ResizeGrad", {t.input(dtype, c.y), {}, {}, sizes}, gradient));
      expect_like_reference(t.graph, epsilon_of(dtype));
      Compiled compiled(make_onednn_executor(), t.graph);
      EXPECT_EQ(plan_entry(*compiled.program, "Resize").kernel, "native");
      EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep.ResizeGrad").kernel, "native");
    }
  }
}

// Convolution, normalization, activation and their gradients: the normalization works in the convolution's layout, and
// takes the activation and its gradient along.
void train_behind_convolution(DType dtype, std::int64_t channels, const std::string& activation, double low) {
  SCOPED_TRACE(std::string(name_of(dtype)) + " " + std::to_string(channels) + " " + activation);
  TestGraph t;
  Expr x = t.input(dtype, {4, 3, 12, 12}), w = t.b.cast(t.state("w", {channels, 3, 3, 3}), dtype);
  Expr dy = t.input(dtype, {4, channels, 10, 10});
  Expr scale = t.state("scale", {channels}, 1, 0.5, 1.5), shift = t.state("shift", {channels}, 2);
  Expr mean = t.state("mean", {channels}, 3), variance = t.state("variance", {channels}, 4, 0.5, 1.5);
  Expr image = t.b.op("Conv", {x, w});
  const Attributes training = {{"training_mode", std::int64_t{1}}};
  auto normal = t.b.multi("BatchNormalization", "", {image, scale, shift, mean, variance}, 3, training);
  const NodeId forward = t.graph.nodes.back().id;
  t.update(mean, normal[1]);
  t.update(variance, normal[2]);
  const bool relu = activation == "Relu";
  Expr least = t.b.scalar(low, dtype), most = t.b.scalar(1, dtype);
  Expr y = relu ? t.b.op("Relu", {normal[0]}) : t.b.op("Clip", {normal[0], least, most});
  t.output(y);
  t.b.set_context("grad", forward);
  Expr before = relu ? t.b.own("ReluGrad", {dy, y}) : t.b.own("ClipGrad", {dy, normal[0], least, most});
  for (Expr g : t.b.multi("BatchNormalizationGrad", "ai.halfstep", {before, image, scale}, 3, training)) t.output(g);
  expect_like_reference(t.graph, 4 * epsilon_of(dtype), 2);

  const Graph fused = run_pipeline(
      t.graph,
      {fuse({{.op = "BatchNormalization", .fused = "FusedBatchNormalization", .activations = {"Relu", "Clip"}}})});
  expect_like_reference(fused, 4 * epsilon_of(dtype), 2);
  Compiled compiled(make_onednn_executor(), fused);
  EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep.FusedBatchNormalization").kernel, "simd");
  EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep.BatchNormalizationGrad").kernel, "simd");
  EXPECT_EQ(count_steps(*compiled.program, activation), 0U);
  EXPECT_EQ(count_steps(*compiled.program, "ai.halfstep." + activation + "Grad"), 0U);
}
// A mean in f32 of equal numbers need not be that number, and what is left is as large as its own deviation.
TEST(OneDnnMeanVarianceNormalization, GivesZerosForEqualElements) {
  TestGraph t;
  Tensor x(DType::f32, {1, 3, 3, 5});
  for (std::size_t i = 0; i < 45; ++i) x.span<float>()[i] = i < 15 ? 0.1F : i < 30 ? 1234.567F : -7e-9F;
  t.output(t.b.op("MeanVarianceNormalization", {t.input(DType::f32, x.shape())}));
  Compiled compiled(make_onednn_executor(), run_pipeline(t.graph, {write_out_operators(/*before_gradient=*/false)}));
  set_input(*compiled.program, 0, x);
  compiled.program->run();
  EXPECT_TRUE(identical(compiled.program->output(0), Tensor(DType::f32, x.shape())));
}

TEST(OneDnnBatchNormalization, TrainsBehindConvolutions) {
  for (DType dtype : kFloats) {
    for (std::int64_t channels : {6, 16, 40}) {
      train_behind_convolution(dtype, channels, "Relu", 0);
      train_behind_convolution(dtype, channels, "Clip", 0);
      train_behind_convolution(dtype, channels, "Clip", 0.25);  // which padding must not become
    }
  }
}

// The images of a batch are shared out to threads where they divide; either way the sums are the reference's.
TEST(OneDnnConvolution, WeightGradientsAgreeForAnyNumberOfThreads) {
  for (DType dtype : kFloats) {
    for (const Shape& image : {Shape{4, 3, 17, 19}, Shape{6, 16, 9, 9}, Shape{3, 32, 8, 8}}) {
      for (std::int64_t group : {std::int64_t{1}, image[1]}) {
        TestGraph t;
        const Shape weight{group == 1 ? 24 : image[1], image[1] / group, 3, 3};
        Expr x = t.input(dtype, image), dy = t.input(dtype, {image[0], weight[0], image[2] - 2, image[3] - 2});
        t.output(t.b.reduce_sum(dy, {0, 2, 3}, false));
        t.output(t.b.own("ConvGradWeight", {dy, x},
                         {{"kernel_shape", Ints{3, 3}}, {"weight_shape", weight.dims()}, {"group", group}}));
        Compiled reference(make_reference_executor(), t.graph);
        for (int threads : {1, 2, 3}) {
          SCOPED_TRACE(image.to_string() + std::string(name_of(dtype)) + " threads " + std::to_string(threads));
          Compiled onednn(make_onednn_executor({.threads = threads}), t.graph);
          for (std::size_t i = 0; i < t.graph.inputs.size(); ++i) {
            const Value& in = t.graph[t.graph.inputs[i]];
            const Tensor value = random_tensor(in.dtype, in.shape, static_cast<unsigned>(i) + 1);
            set_input(*reference.program, i, value);
            set_input(*onednn.program, i, value);
          }
          reference.program->run();
          onednn.program->run();
          const Tensor first = onednn.program->output(1).clone();
          onednn.program->run();
          expect_close(onednn.program->output(1), first, 0, "the same bits again");
          for (std::size_t i : {0, 1})
            expect_close(onednn.program->output(i), reference.program->output(i), epsilon_of(dtype), "sums");
        }
      }
    }
  }
}

// oneDNN keeps primitives by their descriptor and the number of threads: a share of six images must not find the
// primitive that two threads made for three.
TEST(OneDnnConvolution, WeightGradientsOfAShareAgreeBehindThoseOfTheWhole) {
  for (std::int64_t images : {3, 6}) {
    SCOPED_TRACE(images);
    TestGraph t;
    t.output(t.b.own("ConvGradWeight",
                     {t.input(DType::f32, {images, 32, 14, 14}), t.input(DType::f32, {images, 32, 16, 16})},
                     {{"kernel_shape", Ints{3, 3}}, {"weight_shape", Ints{32, 32, 3, 3}}}));
    expect_like_reference(t.graph, 1e-5, 1, -1, 1, {.threads = 2});
  }
}

// oneDNN's first choice for gradients of strided depthwise convolutions in bf16 multiplies matrices of single channels.
TEST(OneDnnConvolution, DepthwiseGradientsOfTheInputAreNoMatrixProducts) {
  for (DType dtype : kFloats) {
    for (std::int64_t stride : {1, 2}) {
      SCOPED_TRACE(std::string(name_of(dtype)) + ", stride " + std::to_string(stride));
      TestGraph t;
      const std::int64_t out = 16 / stride;
      t.output(t.b.own("ConvGradInput", {t.input(dtype, {2, 32, out, out}), t.input(dtype, {32, 1, 3, 3})},
                       {{"kernel_shape", Ints{3, 3}},
                        {"pads", Ints{1, 1, 1, 1}},
                        {"strides", Ints{stride, stride}},
                        {"group", std::int64_t{32}},
                        {"input_shape", Ints{2, 32, 16, 16}}}));
      expect_like_reference(t.graph, epsilon_of(dtype));
      const Compiled compiled(make_onednn_executor(), t.graph);
      const std::string kernel = plan_entry(*compiled.program, "ai.halfstep.ConvGradInput").kernel;
      for (const char* products : {"brgconv", "gemm"}) EXPECT_EQ(kernel.find(products), std::string::npos) << kernel;
    }
  }
}

// Kernels larger than the image, which oneDNN has no depthwise kernel for, in every order of channels.
TEST(OneDnnConvolution, DepthwiseKernelsLargerThanTheImageAgree) {
  const auto wide = [](Ints kernel, Ints pads, Ints strides, Ints dilations) {
    return Attributes{{"kernel_shape", kernel}, {"pads", pads}, {"strides", strides}, {"dilations", dilations}};
  };
  const std::vector<std::pair<Shape, Attributes>> cases = {
      {{2, 16, 2, 2}, wide({3, 3}, {1, 1, 1, 1}, {1, 1}, {1, 1})},
      {{3, 24, 4, 5}, wide({7, 7}, {3, 3, 3, 3}, {1, 1}, {1, 1})},
      {{2, 5, 9, 11}, wide({7, 5}, {3, 2, 4, 5}, {2, 1}, {1, 2})},
      {{1, 40, 3, 20}, wide({9, 3}, {4, 0, 4, 2}, {1, 3}, {1, 1})},
      {{2, 33, 6}, wide({9}, {4, 4}, {1}, {1})},
  };
  for (DType dtype : kFloats) {
    for (const auto& [image, window] : cases) {
      for (bool channels_last : {false, true}) {
        SCOPED_TRACE(image.to_string() + std::string(name_of(dtype)) + (channels_last ? " channels last" : ""));
        TestGraph t;
        const std::int64_t channels = image[1];
        Ints kernel{channels, 1};
        for (std::int64_t extent : window.get_ints("kernel_shape")) kernel.push_back(extent);
        Attributes attributes = window;
        attributes.set("group", channels);
        Expr x;
        if (channels_last) {
          Ints shape{image[0]}, perm{0, static_cast<std::int64_t>(image.rank()) - 1};
          for (std::size_t i = 2; i < image.rank(); ++i) shape.push_back(image[i]);
          for (std::size_t i = 1; i + 1 < image.rank(); ++i) perm.push_back(static_cast<std::int64_t>(i));
          shape.push_back(channels);
          x = t.b.op("Transpose", {t.input(dtype, Shape(shape))}, {{"perm", perm}});
        } else {
          x = t.input(dtype, image);
        }
        Expr w = t.input(dtype, Shape(kernel)), bias = t.input(dtype, {channels});
        Expr y = t.b.op("Conv", {x, w, bias}, attributes);
        t.output(y);
        t.output(t.b.op("Conv", {x, w}, attributes));
        Expr dy = t.input(dtype, y.shape());
        Ints axes;
        for (std::size_t i = 0; i < image.rank(); ++i)
          if (i != 1) axes.push_back(static_cast<std::int64_t>(i));
        t.output(t.b.reduce_sum(dy, axes, false));
        attributes.set("weight_shape", kernel);
        t.output(t.b.own("ConvGradWeight", {dy, x}, attributes));
        expect_like_reference(t.graph, epsilon_of(dtype));
        Compiled compiled(make_onednn_executor(), t.graph);
        // For some of them oneDNN has a kernel that is no matrix product.
        EXPECT_EQ(plan_entry(*compiled.program, "Conv").kernel.find("gemm"), std::string::npos);
        EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep.ConvGradWeight").kernel, "simd");
      }
    }
  }
}

TEST(OneDnnConvolution, DepthwiseWeightGradientsAreTheSameForAnyNumberOfThreads) {
  TestGraph t;
  const Attributes attributes = {{"kernel_shape", Ints{7, 7}},
                                 {"pads", Ints{3, 3, 3, 3}},
                                 {"group", std::int64_t{96}},
                                 {"weight_shape", Ints{96, 1, 7, 7}}};
  t.output(
      t.b.own("ConvGradWeight", {t.input(DType::f32, {4, 96, 5, 5}), t.input(DType::f32, {4, 96, 5, 5})}, attributes));
  std::vector<Tensor> found;
  for (int threads : {1, 2, 3}) {
    Compiled onednn(make_onednn_executor({.threads = threads}), t.graph);
    EXPECT_EQ(plan_entry(*onednn.program, "ai.halfstep.ConvGradWeight").kernel, "simd");
    for (std::size_t i : {0, 1})
      set_input(*onednn.program, i, random_tensor(DType::f32, {4, 96, 5, 5}, static_cast<unsigned>(i) + 1));
    onednn.program->run();
    found.push_back(onednn.program->output(0).clone());
    expect_close(found.back(), found[0], 0, "threads " + std::to_string(threads));
  }
}

TEST(OneDnnConvolution, DepthwiseKernelsTakeChannelsLastAsTheyLie) {
  for (std::int64_t channels : {8, 16, 24}) {
    SCOPED_TRACE(channels);
    TestGraph t;
    auto image = [&] {
      return t.b.op("Transpose", {t.input(DType::f32, {2, 4, 4, channels})}, {{"perm", Ints{0, 3, 1, 2}}});
    };
    t.output(t.b.own("ConvGradWeight", {image(), image()},
                     {{"kernel_shape", Ints{7, 7}},
                      {"pads", Ints{3, 3, 3, 3}},
                      {"group", channels},
                      {"weight_shape", Ints{channels, 1, 7, 7}}}));
    expect_like_reference(t.graph, 1e-5);
    Compiled compiled(make_onednn_executor(), t.graph);
    EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep.ConvGradWeight").kernel, "simd");
    EXPECT_EQ(count_steps(*compiled.program, "Reorder"), 1U);  // of the result
  }
}

TEST(OneDnnConvolution, DepthwiseKernelsTakeBiasResidualAndRelu) {
  for (bool bias : {false, true}) {
    for (bool residual : {false, true}) {
      for (const char* activation : {"", "Relu"}) {
        SCOPED_TRACE(std::string(bias ? "bias " : "") + (residual ? "residual " : "") + activation);
        TestGraph t;
        const Shape image{2, 33, 6};
        std::vector<Expr> in = {t.input(DType::f32, image), t.input(DType::f32, {33, 1, 9}), Expr(), Expr()};
        if (bias) in[2] = t.input(DType::f32, {33});
        if (residual) in[3] = t.input(DType::f32, image);
        t.output(t.b.own("FusedConv", in,
                         {{"pads", Ints{4, 4}}, {"group", std::int64_t{33}}, {"activation", std::string(activation)}}));
        expect_like_reference(t.graph, 1e-5);
        Compiled compiled(make_onednn_executor(), t.graph);
        EXPECT_EQ(plan_entry(*compiled.program, "ai.halfstep.FusedConv").kernel, "simd");
      }
    }
  }
}

TEST(OneDnnDropout, ThatDropsNothingCopies) {
  TestGraph t;
  Expr x = t.input(DType::f32, {3, 50});
  Expr ratio = t.b.constant(Tensor::scalar(0.0F)), training = t.b.constant(Tensor::scalar(true));
  t.output(t.b.op("Dropout", {x, ratio, training}));
  t.output(t.b.op("Dropout", {x}) * 2.0);
  expect_like_reference(t.graph, 0);
  Compiled compiled(make_onednn_executor(), t.graph);
  EXPECT_NE(plan_entry(*compiled.program, "Dropout").kernel, "reference");
}

TEST(OneDnnSplit, TakesTheLayoutOfItsOperand) {
  for (std::int64_t channels : {16, 24, 32}) {
    SCOPED_TRACE(channels);
    TestGraph t;
    Expr y = t.b.op("Conv", {t.input(DType::f32, {2, 3, 9, 9}), t.input(DType::f32, {channels, 3, 3, 3})});
    for (std::int64_t axis : {0, 1, 3}) {
      const std::int64_t extent = axis == 0 ? 2 : axis == 1 ? channels : 7;
      for (Expr part : t.b.multi("Split", "", {y, t.b.ints({extent / 2, extent - extent / 2})}, 2, {{"axis", axis}}))
        t.output(t.b.op("Relu", {part}));
    }
    expect_like_reference(t.graph, 1e-5);
  }
}

// Parts of whole blocks of channels, and others; then taken apart again. oneDNN's own copies of half types are slow on
// CPUs that do not compute in them.
TEST(OneDnnConcat, JoinsWhatConvolutionsGiveAsItLies) {
  for (DType dtype : kFloats)
    for (const std::vector<std::int64_t>& channels : {Ints{16, 32}, Ints{8, 5, 16}, Ints{24, 3}})
      for (std::int64_t axis : {1, 2}) {
        SCOPED_TRACE(std::string(name_of(dtype)) + Shape(channels).to_string() + std::to_string(axis));
        TestGraph t;
        Expr x = t.b.op("Relu", {t.input(dtype, {2, 16, 9, 9})});
        std::vector<Expr> parts;
        for (std::int64_t count : channels)
          parts.push_back(t.b.op("Conv", {x, t.b.cast(t.state("w", {axis == 1 ? count : 16, 16, 3, 3}), dtype)},
                                 {{"kernel_shape", Ints{3, 3}}}));
        Expr joined = t.b.op("Concat", parts, {{"axis", axis}});
        const Shape whole = joined.shape();
        t.output(joined);
        t.output(t.b.op("Conv", {joined, t.b.cast(t.state("v", {8, whole[1], 3, 3}), dtype)}));
        for (Expr part :
             t.b.multi("Split", kOnnxDomain, {joined, t.b.ints(axis == 1 ? channels : Ints{3, whole[2] - 3})},
                       axis == 1 ? channels.size() : 2, {{"axis", axis}}))
          t.output(part);
        expect_like_reference(t.graph, 8 * epsilon_of(dtype));
        Compiled compiled(make_onednn_executor(), t.graph);
        for (const PlanEntry& entry : compiled.program->plan().entries)
          EXPECT_EQ(entry.kernel.find("ref:any"), std::string::npos) << entry.op << " " << entry.node;
      }
}

TEST(OneDnnSlice, OfManyAxesAgreesWithReference) {
  for (std::size_t rank : {std::size_t{12}, std::size_t{13}}) {
    TestGraph t;
    Expr x = t.input(DType::f32, Shape(Ints(rank, 3)));
    Expr part = t.b.op("Slice", {x, t.b.ints(Ints(rank, 1)), t.b.ints(Ints(rank, 3))});
    t.output(part);
    t.output(t.b.op("Concat", {part, part}, {{"axis", std::int64_t{5}}}));
    expect_like_reference(t.graph, 0);
  }
}

TEST(OneDnnLayerNormalization, GradientAgreesWithReference) {
  for (DType dtype : kFloats) {
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 7, 64}, Shape{40, 33}}) {
      SCOPED_TRACE(std::string(name_of(dtype)) + shape.to_string());
      TestGraph t;
      const Shape row{shape[shape.rank() - 1]};
      Expr x = t.input(dtype, shape), dy = t.input(dtype, shape), scale = t.input(dtype, row);
      t.output(t.b.op("LayerNormalization", {x, scale, t.input(dtype, row)}, {{"epsilon", 1e-3F}}));
      const NodeId forward = t.graph.nodes.back().id;
      auto gradient = [&] {
        for (Expr g : t.b.multi("LayerNormalizationGrad", "ai.halfstep", {dy, x, scale}, 3, {{"epsilon", 1e-3F}}))
          t.output(g);
      };
      gradient();  // with statistics of its own
      t.b.set_context("grad", forward);
      gradient();  // with the forward pass' statistics
      expect_like_reference(t.graph, 4 * epsilon_of(dtype));
    }
  }
}

}  // namespace
}  // namespace halfstep::testing
