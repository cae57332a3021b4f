#include "onnx_io/external_data.h"

#include <onnx/onnx_pb.h>
#include <sys/stat.h>

#include "onnx_io/replaced_data.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using testing::HasSubstr;

// y = x + w, with w (4 floats) in external data described by key and value pairs.
onnx::ModelProto model_with(const std::vector<std::pair<std::string, std::string>>& entries) {
  onnx::ModelProto model = test::parse_proto(
      "<ir_version: 8, opset_import: [\"\": 17]> m (float[4] x) => (float[4] y) <float[4] w = {0.0,0.0,0.0,0.0}> { y = "
      "Add(x, w) }");
  onnx::TensorProto& tensor = *model.mutable_graph()->mutable_initializer(0);
  tensor.clear_float_data();
  tensor.clear_raw_data();
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] : entries) {
    auto* entry = tensor.add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  }
  return model;
}

// A folder "model" for the model and a secret beside it, out of its reach.
class ExternalData : public testing::Test {
 protected:
  ExternalData() {
    const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
    bytes_.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    fs::create_directories(home() / "sub");
    test::write_bytes(home() / "w.bin", bytes_);
    test::write_bytes(home() / "sub" / "w.bin", bytes_);
    test::write_bytes(folder_ / "secret.bin", bytes_);
  }

  fs::path home() const { return folder_ / "model"; }

  LoadedModel load(const onnx::ModelProto& model) const {
    test::write_bytes(home() / "model.onnx", model.SerializeAsString());
    return load_model(home() / "model.onnx");
  }

  std::string error(const std::vector<std::pair<std::string, std::string>>& entries) const {
    return error_of([&] { load(model_with(entries)); });
  }

  test::TempFolder folder_;
  std::string bytes_;
};

TEST_F(ExternalData, IsRead) {
  struct {
    std::vector<std::pair<std::string, std::string>> entries;
    std::vector<double> expected;
  } const cases[] = {
      {{{"location", "w.bin"}}, {1, 2, 3, 4}},
      {{{"location", "w.bin"}, {"offset", "16"}}, {5, 6, 7, 8}},
      {{{"location", "w.bin"}, {"offset", "4"}, {"length", "16"}}, {2, 3, 4, 5}},
      {{{"location", "sub/w.bin"}, {"length", "16"}, {"checksum", "unread"}}, {1, 2, 3, 4}},
  };
  for (const auto& c : cases) {
    const LoadedModel loaded = load(model_with(c.entries));
    EXPECT_EQ(to_doubles(loaded.graph[loaded.graph.find("w")].constant), c.expected);
  }
}

TEST_F(ExternalData, IsReadForAModelNamedWithoutAFolder) {
  test::write_bytes(home() / "model.onnx", model_with({{"location", "w.bin"}}).SerializeAsString());
  const fs::path before = fs::current_path();
  fs::current_path(home());
  const std::string error = error_of([] { load_model("model.onnx"); });
  fs::current_path(before);
  EXPECT_EQ(error, "");
}

TEST_F(ExternalData, OutsideTheModelsFolderIsRefused) {
  for (const std::string& location :
       {std::string("../secret.bin"), std::string("sub/../../secret.bin"), std::string("sub/../w.bin"),
        (folder_ / "secret.bin").string(), std::string("/etc/passwd"), std::string("./w.bin"),
        std::string("sub//w.bin"), std::string("sub/./w.bin"), std::string("w.bin/"), std::string(""),
        std::string(".."), std::string("sub\\..\\..\\secret.bin"), std::string("w.bin\0.png", 9)}) {
    const std::string text = error({{"location", location}});
    EXPECT_THAT(text, HasSubstr("relative path")) << location;
    EXPECT_THAT(text, HasSubstr("tensor 'w'")) << location;
  }
  EXPECT_THAT(error({}), HasSubstr("relative path"));
}

TEST_F(ExternalData, ThroughLinksIsRefused) {
  fs::create_symlink("../secret.bin", home() / "link.bin");
  fs::create_symlink("w.bin", home() / "inner_link.bin");
  fs::create_directory_symlink("..", home() / "up");
  fs::create_directory_symlink("sub", home() / "sub_link");
  fs::create_symlink("nowhere", home() / "dangling.bin");
  fs::create_symlink("loop.bin", home() / "loop.bin");
  for (const char* location :
       {"link.bin", "inner_link.bin", "up/secret.bin", "sub_link/w.bin", "dangling.bin", "loop.bin"})
    EXPECT_THAT(error({{"location", location}}), HasSubstr("link")) << location;
  fs::create_hard_link(folder_ / "secret.bin", home() / "hard.bin");
  EXPECT_THAT(error({{"location", "hard.bin"}}), HasSubstr("2 hard links"));
}

TEST_F(ExternalData, ThatIsNoRegularFileIsRefused) {
  ASSERT_EQ(::mkfifo((home() / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error({{"location", "pipe"}}), HasSubstr("regular file"));
  EXPECT_THAT(error({{"location", "sub"}}), HasSubstr("regular file"));
  EXPECT_THAT(error({{"location", "missing.bin"}}), HasSubstr("No such file"));
  EXPECT_THAT(error({{"location", "missing/w.bin"}}), HasSubstr("No such file"));
  EXPECT_THAT(error({{"location", "w.bin/w.bin"}}), HasSubstr("real folders"));
}

TEST_F(ExternalData, OutsideTheFileIsRefused) {
  struct {
    const char *offset, *length, *text;
  } const cases[] = {
      {"17", "16", "32 bytes"},
      {"33", "16", "32 bytes"},
      {"18446744073709551615", "16", "32 bytes"},
      {"0", "15", "of 16 bytes"},
      {"0", "17", "of 16 bytes"},
      {"0", "18446744073709551615", "of 16 bytes"},
      {"18446744073709551616", "16", "offset"},
      {"-4", "16", "offset"},
      {" 4", "16", "offset"},
      {"0x4", "16", "offset"},
      {"", "16", "offset"},
      {"0", "sixteen", "length"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(error({{"location", "w.bin"}, {"offset", c.offset}, {"length", c.length}}), HasSubstr(c.text))
        << c.offset << " " << c.length;
}

TEST_F(ExternalData, OfAShapeThatOverflowsIsRefused) {
  for (const std::vector<std::int64_t>& dims :
       {std::vector<std::int64_t>{1LL << 62, 4}, {1LL << 60}, {-1}, {1LL << 40}}) {
    onnx::ModelProto model = model_with({{"location", "w.bin"}});
    onnx::TensorProto& tensor = *model.mutable_graph()->mutable_initializer(0);
    tensor.clear_dims();
    for (std::int64_t d : dims) tensor.add_dims(d);
    EXPECT_NE(error_of([&] { load(model); }), "");
  }
  onnx::ModelProto strings = model_with({{"location", "w.bin"}});
  strings.mutable_graph()->mutable_initializer(0)->set_data_type(onnx::TensorProto::STRING);
  EXPECT_THAT(error_of([&] { load(strings); }), HasSubstr("numeric"));
}

TEST_F(ExternalData, ClaimedManyTimesOverIsRefused) {
  onnx::ModelProto model = model_with({{"location", "w.bin"}});
  const onnx::TensorProto tensor = model.graph().initializer(0);
  for (int i = 0; i < 100; ++i) {
    onnx::TensorProto& copy = *model.mutable_graph()->add_initializer();
    copy = tensor;
    copy.set_name("w" + std::to_string(i));
  }
  EXPECT_THAT(error_of([&] { load(model); }), HasSubstr("many times over"));
}

TEST_F(ExternalData, OfAttributesAndFunctionsIsCheckedToo) {
  const onnx::TensorProto evil = model_with({{"location", "../secret.bin"}}).graph().initializer(0);
  auto add_constant = [&](auto& owner) {
    onnx::NodeProto& node = *owner.add_node();
    node.set_op_type("Constant");
    node.add_output("evil");
    onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name("value");
    attribute.set_type(onnx::AttributeProto::TENSOR);
    *attribute.mutable_t() = evil;
  };
  const onnx::ModelProto plain =
      test::parse_proto("<ir_version: 8, opset_import: [\"\": 17]> m (float[4] x) => (float[4] y) { y = Relu(x) }");
  onnx::ModelProto in_node = plain, in_function = plain, in_training = plain, in_subgraph = plain, by_default = plain;
  add_constant(*in_node.mutable_graph());
  add_constant(*in_function.add_functions());
  add_constant(*in_training.add_training_info()->mutable_algorithm());
  onnx::AttributeProto& branch = *in_subgraph.mutable_graph()->mutable_node(0)->add_attribute();
  branch.set_name("then_branch");
  branch.set_type(onnx::AttributeProto::GRAPH);
  add_constant(*branch.mutable_g());
  onnx::AttributeProto& attribute = *by_default.add_functions()->add_attribute_proto();
  attribute.set_name("value");
  attribute.set_type(onnx::AttributeProto::TENSOR);
  *attribute.mutable_t() = evil;
  for (const onnx::ModelProto& model : {in_node, in_function, in_training, in_subgraph, by_default})
    EXPECT_THAT(error_of([&] { load(model); }), HasSubstr("'../secret.bin'"));
}

TEST_F(ExternalData, NeedsAFolder) {
  const std::string bytes = model_with({{"location", "w.bin"}}).SerializeAsString();
  EXPECT_THAT(error_of([&] { load_model_from_bytes(bytes); }), HasSubstr("no folder is given"));
  EXPECT_EQ(error_of([&] { load_model_from_bytes(bytes, home()); }), "");
}

TEST_F(ExternalData, IsWrittenAndReadBack) {
  onnx::ModelProto model = model_with({{"location", "w.bin"}});
  read_external_data(model, home());
  onnx::TensorProto& second = *model.mutable_graph()->add_initializer();
  second.set_name("typed");
  second.set_data_type(onnx::TensorProto::FLOAT);
  second.add_dims(3);
  for (float f : {1.5f, 2.5f, 3.5f}) second.add_float_data(f);
  onnx::ModelProto written = model;
  write_external_data(written, home() / "out.data", 1);
  for (const auto& tensor : written.graph().initializer()) {
    EXPECT_EQ(tensor.data_location(), onnx::TensorProto::EXTERNAL);
    EXPECT_FALSE(tensor.has_raw_data());
    EXPECT_EQ(tensor.float_data_size(), 0);
  }
  EXPECT_EQ(written.graph().initializer(1).external_data(1).value(), "64");
  read_external_data(written, home());
  EXPECT_EQ(written.graph().initializer(0).raw_data(), bytes_.substr(0, 16));
  EXPECT_EQ(written.graph().initializer(1).raw_data(), std::string("\0\0\xc0\x3f\0\0\x20\x40\0\0\x60\x40", 12));
}

TEST_F(ExternalData, IsNotWrittenThroughALink) {
  fs::create_symlink("../secret.bin", home() / "out.data");
  onnx::ModelProto model = model_with({{"location", "w.bin"}});
  read_external_data(model, home());
  write_external_data(model, home() / "out.data", 1);
  EXPECT_EQ(test::read_bytes(folder_ / "secret.bin"), bytes_);
  EXPECT_FALSE(fs::is_symlink(home() / "out.data"));
  EXPECT_EQ(test::read_bytes(home() / "out.data"), bytes_.substr(0, 16) + std::string(kDataMark));
}

}  // namespace
}  // namespace halfstep
