// What a model that is written leaves in its folder: its own files, whatever stood there and whatever fails.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>

#include "onnx_io/external_data.h"
#include "onnx_io/replaced_data.h"
#include "tests/temporary_directory.h"
#include <halfstep/base/error.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

/// y = x · w, where w has 256 KB and each of its elements is `value`.
Graph model_of(float value) {
  LoadedModel model = parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m
    (float[N, 256] x, float[256, 256] w) => (float[N, 256] y) { y = MatMul(x, w) })");
  Graph& graph = model.graph;
  const ValueId w = graph.find("w");
  Tensor weights(DType::f32, Shape{256, 256});
  for (float& element : weights.span<float>()) element = value;
  graph[w].constant = weights;
  graph[w].is_initializer = true;
  std::erase(graph.inputs, w);
  return std::move(graph);
}

class ModelFiles : public testing::Test {
 protected:
  void save(float value, ExternalData external, const char* name = "m.onnx") {
    save_model(model_of(value), dir_ / name, external);
  }
  float saved(const char* name = "m.onnx") {
    const LoadedModel model = load_model(dir_ / name);
    return *model.graph[model.graph.find("w")].constant.data<float>();
  }
  mode_t bits(const std::string& name) {
    struct stat status;
    return ::stat((dir_ / name).c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
  }

  TemporaryDirectory dir_;
};

constexpr ExternalData kOne = ExternalData::never, kTwo = ExternalData::always;

TEST_F(ModelFiles, DataOfAReplacedModelGoWhateverReplacesIt) {
  float value = 0;
  for (const ExternalData external : {kTwo, kOne, kTwo, kTwo, kTwo, kOne, kOne, kTwo}) {
    save(++value, external);
    EXPECT_EQ(saved(), value);
    EXPECT_EQ(dir_.names().size(), external == kTwo ? 2u : 1u) << "after " << value << " models";
  }
}

TEST_F(ModelFiles, DataThatAnotherModelRefersToStay) {
  save(1, kTwo);
  fs::copy_file(dir_ / "m.onnx", dir_ / "copy.onnx");
  save(2, kOne);
  EXPECT_EQ(saved(), 2);
  EXPECT_EQ(saved("copy.onnx"), 1);
  write_text(dir_ / "m.onnx.data7", "another's");
  save(3, kTwo);
  save(4, kOne);
  EXPECT_EQ(saved("copy.onnx"), 1);
  EXPECT_THAT(dir_.names(), UnorderedElementsAre("m.onnx", "copy.onnx", "m.onnx.data", "m.onnx.data7"));
}

TEST_F(ModelFiles, DataThatHalfstepDidNotWriteStay) {
  save(1, kTwo);
  fs::resize_file(dir_ / "m.onnx.data", fs::file_size(dir_ / "m.onnx.data") - kDataMark.size());
  EXPECT_EQ(saved(), 1);
  save(2, kOne);
  EXPECT_THAT(dir_.names(), UnorderedElementsAre("m.onnx", "m.onnx.data"));
}

TEST_F(ModelFiles, DataStayWhereAnotherFileMayNeedThem) {
  enum Content : std::uint8_t { copy, dotted, damaged, text };
  const struct {
    const char* beside;
    Content content;
    bool stay;
  } cases[] = {
      {"m.onnx.bak", copy, true},      {"m.ONNX", copy, true},        {"backup", copy, true},
      {"other.onnx", dotted, true},    {"other.onnx", damaged, true}, {"other", damaged, false},
      {"notes.onnx.txt", text, false},
  };
  for (const auto& c : cases) {
    const TemporaryDirectory dir;
    save_model(model_of(1), dir / "m.onnx", kTwo);
    std::string bytes = read_text(dir / "m.onnx");
    if (c.content == dotted) {
      onnx::ModelProto model;
      ASSERT_TRUE(model.ParseFromString(bytes));
      for (auto& entry : *model.mutable_graph()->mutable_initializer(0)->mutable_external_data())
        if (entry.key() == "location") entry.set_value("./m.onnx.data");
      bytes = model.SerializeAsString();
    }
    if (c.content == damaged) bytes.pop_back();
    write_text(dir / c.beside, c.content == text ? "location: m.onnx.data" : bytes);
    save_model(model_of(2), dir / "m.onnx", kOne);
    EXPECT_EQ(fs::exists(dir / "m.onnx.data"), c.stay) << c.beside << " " << c.content;
  }
}

TEST_F(ModelFiles, AModelThatCannotTakeItsPlaceLeavesNoData) {
  fs::create_directories(dir_ / "m.onnx" / "full");
  EXPECT_THROW(save(1, kTwo), Error);
  EXPECT_THROW(save(1, kOne), Error);
  EXPECT_THAT(dir_.names(), UnorderedElementsAre("m.onnx"));
}

TEST_F(ModelFiles, WhatAKillBetweenTheTwoFilesLeavesGoesWithTheNextModel) {
  for (const bool had_one : {false, true})
    for (const ExternalData next : {kOne, kTwo}) {
      const TemporaryDirectory dir;
      const auto save_here = [&](float value, ExternalData external) {
        save_model(model_of(value), dir / "m.onnx", external);
      };
      // The data have their name, the model not yet.
      save_here(1, kTwo);
      fs::rename(dir / "m.onnx", dir / ".m.onnx.abcdef.tmp");
      if (had_one) save_model(model_of(2), dir / "m.onnx", kOne);
      if (had_one) save_here(3, kTwo);
      save_here(4, next);
      EXPECT_EQ(dir.names().size(), next == kTwo ? 2u : 1u);
      const LoadedModel model = load_model(dir / "m.onnx");
      EXPECT_EQ(*model.graph[model.graph.find("w")].constant.data<float>(), 4);
    }
}

TEST_F(ModelFiles, DataThatAKilledWriterHadNotFinishedGo) {
  for (const ExternalData next : {kOne, kTwo}) {
    write_text(dir_ / ".m.onnx.data.abcdef.tmp", "half of it");
    write_text(dir_ / ".m.onnx.data2.abcdef.tmp", "half of it");
    save(1, next);
    EXPECT_EQ(dir_.names().size(), next == kTwo ? 2u : 1u);
  }
}

TEST_F(ModelFiles, DevicesAndPipesAreRefused) {
  ASSERT_EQ(::mkfifo((dir_ / "pipe.onnx").c_str(), 0600), 0);
  for (const ExternalData external : {kOne, kTwo}) {
    EXPECT_THAT(error_of(Error::Kind::input, [&] { save_model(model_of(1), "/dev/full", external); }),
                HasSubstr("regular file"));
    EXPECT_THAT(error_of(Error::Kind::input, [&] { save(1, external, "pipe.onnx"); }), HasSubstr("regular file"));
  }
  EXPECT_FALSE(fs::exists("/dev/full.data"));
  EXPECT_THAT(dir_.names(), UnorderedElementsAre("pipe.onnx"));
}

TEST_F(ModelFiles, AllPartsHaveThePermissionsOfTheModelThatIsReplaced) {
  for (const mode_t before : {0600u, 0640u, 0604u, 04755u}) {
    for (const ExternalData external : {kOne, kTwo}) {
      save(1, kOne);
      ASSERT_EQ(::chmod((dir_ / "m.onnx").c_str(), before), 0);
      save(2, external);
      EXPECT_EQ(bits("m.onnx"), before & 0777);
      EXPECT_EQ(bits("m.onnx.data"), external == kTwo ? before & 0777 : 0u);
      fs::remove(dir_ / "m.onnx");
      fs::remove(dir_ / "m.onnx.data");
    }
  }
}

// Bytes may say so by chance.
TEST_F(ModelFiles, AFileThatIsReplacedNamesDataOnlyAsAModel) {
  std::ofstream(dir_ / "m.onnx.data") << "somebody's";
  std::ofstream(dir_ / "m.onnx") << "location m.onnx.data";
  save(1, kOne);
  EXPECT_TRUE(fs::exists(dir_ / "m.onnx.data"));
}

// A message is searched for the word "location" 1 MiB at a time, and taken apart where it has it.
TEST_F(ModelFiles, TheNameOfDataIsFoundWhereverItIsInTheModel) {
  constexpr std::size_t kWindow = std::size_t{1} << 20;
  const std::string word = "location";
  std::size_t crossings = 0;
  for (std::size_t back = 0; back <= word.size(); ++back) {
    save(1, kTwo);
    onnx::ModelProto model;
    ASSERT_TRUE(model.ParseFromString(read_text(dir_ / "m.onnx")));
    model.set_producer_name(std::string(kWindow, 'x'));  // is written before the graph
    const std::size_t at = model.SerializeAsString().find(word), end = kWindow - back;
    ASSERT_LT(end, at);
    ASSERT_LT(at - end, kWindow / 2);
    model.set_producer_name(std::string(kWindow - (at - end), 'x'));
    write_text(dir_ / "m.onnx", model.SerializeAsString());
    const std::size_t found = read_text(dir_ / "m.onnx").find(word);
    ASSERT_EQ(found, end);
    crossings += found < kWindow && found + word.size() > kWindow ? 1 : 0;
    save(2, kOne);
    EXPECT_THAT(dir_.names(), UnorderedElementsAre("m.onnx")) << "the word begins at byte " << found;
  }
  EXPECT_EQ(crossings, word.size() - 1);
}

TEST_F(ModelFiles, AModelThatNamesNoDataLeavesThem) {
  save(1, kOne);
  std::ofstream(dir_ / "m.onnx.data") << "somebody's";
  save(2, kOne);
  EXPECT_TRUE(fs::exists(dir_ / "m.onnx.data"));
}

TEST_F(ModelFiles, LoadingTellsWhereTheDataAre) {
  save(1, kTwo);
  EXPECT_THAT(load_model(dir_ / "m.onnx").data_files, UnorderedElementsAre(dir_ / "m.onnx.data"));
  save(1, kOne);
  EXPECT_THAT(load_model(dir_ / "m.onnx").data_files, UnorderedElementsAre());
}

TEST_F(ModelFiles, WhatCannotBeLookedAtIsNotCalledMissing) {
  fs::create_symlink("loop", dir_ / "loop");
  const std::string text = error_of(Error::Kind::input, [&] { load_model(dir_ / "loop"); });
  EXPECT_THAT(text, HasSubstr("Too many levels of symbolic links"));
  EXPECT_THAT(error_of(Error::Kind::input, [&] { load_model(dir_ / "none"); }), HasSubstr("does not exist"));
}

}  // namespace
}  // namespace halfstep
