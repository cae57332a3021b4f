// Large initializers: one copy of them between graph and source model, and none of the message when it is saved.
#include <numeric>

#include "onnx_io/detached.h"
#include "onnx_io/source_model.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/save_lazy.h>

namespace halfstep {
namespace {

using test::error_of;
using test::parse_proto;
using test::read_bytes;
using test::write_bytes;
using testing::HasSubstr;

constexpr std::int64_t kSide = 512;  // a square of f32 that is larger than kOutsideBytes

Tensor square(float first) {
  Tensor tensor(DType::f32, Shape{kSide, kSide});
  std::iota(tensor.span<float>().begin(), tensor.span<float>().end(), first);
  return tensor;
}

void set(onnx::TensorProto& tensor, const Tensor& value) {
  tensor.clear_dims();
  tensor.clear_float_data();
  for (const std::int64_t extent : value.shape()) tensor.add_dims(extent);
  tensor.set_raw_data(value.raw(), value.bytes());
}

// 4 * 2^62 is 0 in 64 bits.
TEST(Detached, ATensorOfMoreBytesThanCanBeCountedIsRefused) {
  onnx::ModelProto model = parse_proto(R"(<ir_version: 10, opset_import: ["": 20]>
    m (float[2] x) => (float[2] y) <float[1] w = {0}> { y = Relu(x) })");
  onnx::TensorProto& w = *model.mutable_graph()->mutable_initializer(0);
  w.clear_float_data();
  w.set_dims(0, (std::int64_t{1} << 62) + 512);
  w.set_raw_data(std::string(2048, '\0'));
  EXPECT_THAT(error_of([&] { detach(model); }), HasSubstr("of less than 2^63 bytes"));
}

/// w and fixed are large, and p is another name of fixed.
std::string model_bytes() {
  onnx::ModelProto model = parse_proto(R"(<ir_version: 10, producer_name: "test", opset_import: ["": 20]>
    m (float[N, 512] x) => (float[N, 512] y) <float[1] w = {0}, float[1] fixed = {0}, float[2] small = {1, 2}>
    { p = Identity(fixed) a = MatMul(x, w) b = MatMul(a, fixed)
      c = MatMul(b, p) s = ReduceSum(small) y = Add(c, s) })");
  set(*model.mutable_graph()->mutable_initializer(0), square(1));
  set(*model.mutable_graph()->mutable_initializer(1), square(2));
  model.mutable_graph()->mutable_initializer(0)->set_doc_string("behind the tensor's elements");
  model.set_doc_string("behind the graph's fields in no order but that of numbers");
  model.add_metadata_props()->set_key("key");
  return model.SerializeAsString();
}

Tensor value_in(const LoadedModel& model, const char* name) {
  const ValueId id = model.graph.find(name);
  return id == kNoValue ? Tensor() : model.graph[id].constant;
}

TEST(LargeInitializers, AreSharedByGraphAndSource) {
  const LoadedModel model = load_model_from_bytes(model_bytes());
  ASSERT_EQ(model.source->outside.size(), 2u);
  EXPECT_EQ(model.source->outside[0].raw(), value_in(model, "w").raw());
  EXPECT_EQ(model.source->outside[1].raw(), value_in(model, "fixed").raw());
  EXPECT_TRUE(identical(value_in(model, "w"), square(1)));
  EXPECT_LT(model.source->model.ByteSizeLong(), 2000u);
}

TEST(LargeInitializers, AreWrittenAsTheWholeMessageIs) {
  const LoadedModel model = load_model_from_bytes(model_bytes());
  const NamedTensors parameters{{"w", square(7)}, {"small", Tensor::of<float>({3, 4})}};
  const test::TempFolder folder;
  for (const OutputForm form : {OutputForm::training, OutputForm::inference}) {
    save_trained(*model.source, parameters, folder / "out.onnx", {.form = form});
    EXPECT_TRUE(read_bytes(folder / "out.onnx") == trained_model_bytes(*model.source, parameters, form));
  }
  for (const ExternalData external : {ExternalData::never, ExternalData::always}) {
    save_trained(*model.source, parameters, folder / "out.onnx", {.external_data = external});
    const LoadedModel again = load_model(folder / "out.onnx");
    EXPECT_TRUE(identical(value_in(again, "w"), square(7)));
    EXPECT_TRUE(identical(value_in(again, "fixed"), square(2)));
    EXPECT_TRUE(identical(value_in(again, "small"), Tensor::of<float>({3, 4})));
    EXPECT_EQ(again.source->outside.size(), 2u);
  }
}

TEST(LargeInitializers, ThatWereMergedAreTakenApart) {
  const LoadedModel model = load_model_from_bytes(model_bytes());
  const test::TempFolder folder;
  save_trained(*model.source, {{"fixed", square(5)}}, folder / "one.onnx");
  EXPECT_TRUE(identical(value_in(load_model(folder / "one.onnx"), "fixed"), square(5)));
  EXPECT_TRUE(identical(value_in(load_model(folder / "one.onnx"), "p"), square(2))) << "p was not trained";
  save_trained(*model.source, {{"p", square(5)}}, folder / "other.onnx");
  EXPECT_TRUE(identical(value_in(load_model(folder / "other.onnx"), "fixed"), square(2)));
  EXPECT_TRUE(identical(value_in(load_model(folder / "other.onnx"), "p"), square(5)));
}

TEST(WithoutValues, KeepsWhatSavingDoesNotReplace) {
  const LoadedModel model = load_model_from_bytes(model_bytes());
  const NamedTensors parameters{{"w", square(7)}, {"fixed", square(8)}};
  const auto source = without_values(*model.source, LazyTensors::of(parameters).types);
  EXPECT_FALSE(source->outside[0].is_defined());
  EXPECT_TRUE(source->outside[1].is_defined()) << "p is equal to it";
  const test::TempFolder folder;
  save_trained(*source, parameters, folder / "out.onnx");
  save_trained(*model.source, parameters, folder / "expected.onnx");
  EXPECT_TRUE(read_bytes(folder / "out.onnx") == read_bytes(folder / "expected.onnx"));
  for (const DType widened : {DType::undefined, DType::bf16})
    EXPECT_TRUE(trained_model_bytes(*source, parameters, OutputForm::inference, widened) ==
                trained_model_bytes(*model.source, parameters, OutputForm::inference, widened));
  EXPECT_THAT(error_of([&] {
                save_trained(*source, {{"fixed", square(8)}}, folder / "out.onnx");
              }),
              HasSubstr("a value for parameter 'w'"));
  EXPECT_TRUE(read_bytes(folder / "out.onnx") == read_bytes(folder / "expected.onnx")) << "nothing has changed";
}

TEST(LargeInitializers, OfADamagedMessageAreRefused) {
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(model_bytes()));
  model.mutable_graph()->mutable_initializer(0)->mutable_raw_data()->append("more");
  EXPECT_NE(error_of([&] { load_model_from_bytes(model.SerializeAsString()); }), "");
}

}  // namespace
}  // namespace halfstep
