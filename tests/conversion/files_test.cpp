// Reading and writing of the models that are converted.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "onnx_io/replaced_data.h"
#include "tests/conversion/conversion_testing.h"
#include "tests/data/temporary_folder.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::HasSubstr;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string large_model(std::int64_t rows) {
  onnx::ModelProto model;
  model.ParseFromString(convert(ModelFile::parse(header() + "(float[1,256] x) => (float[1,256] y) { y = Relu(x) }"),
                                {.keep_io_types = true})
                            .bytes());
  auto* node = model.mutable_graph()->mutable_node(0);
  node->set_op_type("MatMul");
  node->add_input("w");
  std::vector<float> weights(static_cast<std::size_t>(rows * 256));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i % 1000) / 256;
  *model.mutable_graph()->add_initializer() = tensor_to_proto(Tensor::of(weights, Shape{rows, 256}), "w");
  return model.SerializeAsString();
}

TEST(Files, ExternalDataIsKeptWhereTheSourceHasItAndAskedFor) {
  const TemporaryFolder folder;
  const auto single = folder.path() / "single.onnx", split = folder.path() / "split.onnx",
             out = folder.path() / "out.onnx";
  write_file(single, large_model(256));
  const Conversion conversion = convert(ModelFile::open(single), kKeepIo);
  conversion.save(out);
  EXPECT_FALSE(std::filesystem::exists(out.string() + ".data"));
  conversion.save(split, ExternalData::always);
  EXPECT_EQ(std::filesystem::file_size(split.string() + ".data"), 256u * 256 * 2 + kDataMark.size());
  EXPECT_LT(std::filesystem::file_size(split), 2000u);

  const std::string inline_bytes = read_file(out);
  const Conversion again = convert(ModelFile::open(split), kKeepIo);
  EXPECT_EQ(again.bytes(), inline_bytes) << "the same model, read from two files";
  EXPECT_EQ(again.save(out, ExternalData::never), inline_bytes.size());
  EXPECT_EQ(read_file(out), inline_bytes);
}

TEST(Files, DataThatAnotherModelUsesIsLeftAlone) {
  const TemporaryFolder folder;
  const auto model = folder.path() / "model.onnx", other = folder.path() / "other.onnx";
  ConvertOptions all_f32 = kKeepIo;
  all_f32.keep_f32 = parse_node_patterns("op:MatMul");
  const Conversion f32 = convert(ModelFile::from_bytes(large_model(256)), all_f32);
  const auto reads_as_before = [&] { return convert(ModelFile::open(other), all_f32).bytes() == f32.bytes(); };

  f32.save(model, ExternalData::always);
  std::filesystem::rename(model, other);
  convert(ModelFile::open(other), kKeepIo).save(model);
  EXPECT_TRUE(reads_as_before()) << "renamed, then converted to its old name";

  std::filesystem::remove(model);
  f32.save(model, ExternalData::always);
  std::filesystem::copy_file(model, other, std::filesystem::copy_options::overwrite_existing);
  convert(ModelFile::open(other), kKeepIo).save(model);
  EXPECT_TRUE(reads_as_before()) << "copied without its data, then converted onto what it was copied from";
}

TEST(Files, OfTheSourceAreNotReplaced) {
  const TemporaryFolder folder;
  const auto single = folder.path() / "single.onnx", split = folder.path() / "split.onnx";
  write_file(single, large_model(256));
  ConvertOptions all_f32 = kKeepIo;
  all_f32.keep_f32 = parse_node_patterns("op:MatMul");
  convert(ModelFile::open(single), all_f32).save(split, ExternalData::always);
  const std::filesystem::path data = split.string() + ".data", again = folder.path() / "again.onnx";
  std::filesystem::create_hard_link(single, again);
  const std::string before = read_file(single) + read_file(split) + read_file(data);
  for (const auto& [source, path] : {std::pair(single, single), {single, again}, {split, split}, {split, data}})
    EXPECT_THAT(error_of([&] { convert(ModelFile::open(source), kKeepIo).save(path); }),
                HasSubstr("whose f32 weights would be lost"))
        << path;
  EXPECT_TRUE(read_file(single) + read_file(split) + read_file(data) == before);
}

TEST(Files, DataOfAModelThatIsReplacedGoesWithIt) {
  const TemporaryFolder folder;
  const auto out = folder.path() / "out.onnx";
  const Conversion conversion = convert(ModelFile::from_bytes(large_model(256)), kKeepIo);
  for (int i = 0; i < 3; ++i) conversion.save(out, ExternalData::always);
  const auto files = std::distance(std::filesystem::directory_iterator(folder.path()), {});
  EXPECT_EQ(files, 2);
  EXPECT_EQ(convert(ModelFile::open(out), kKeepIo).bytes(), conversion.bytes());
}

TEST(Files, WhatCannotBeReadOrWrittenLeavesTheOldFile) {
  const TemporaryFolder folder;
  const auto bad = folder.path() / "bad.onnx", out = folder.path() / "out.onnx";
  write_file(bad, "no model at all");
  EXPECT_THAT(error_of([&] { ModelFile::open(bad); }), HasSubstr("bad.onnx"));
  EXPECT_THAT(error_of([&] { ModelFile::open(folder.path() / "none.onnx"); }), HasSubstr("does not exist"));
  const std::string bytes = large_model(256);
  write_file(bad, bytes.substr(0, bytes.size() / 2));
  EXPECT_NE(error_of([&] { ModelFile::open(bad); }), "");
  const Conversion conversion = convert(ModelFile::from_bytes(bytes), {});
  EXPECT_NE(error_of([&] { conversion.save(folder.path() / "no" / "folder.onnx"); }), "");

  // A disk that is full half way.
  write_file(out, "old");
  for (const ExternalData external : {ExternalData::never, ExternalData::always}) {
    const pid_t child = ::fork();
    if (child == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{50000, 50000};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      const bool refused = !error_of([&] { conversion.save(out, external); }).empty();
      ::_exit(refused ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(read_file(out), "old");
  }
}

TEST(Files, AKilledWriteLeavesTheOldModelWhole) {
  const TemporaryFolder folder;
  const auto source = folder.path() / "source.onnx", out = folder.path() / "out.onnx";
  write_file(source, large_model(65536));  // 64 MB
  const Conversion before = convert(ModelFile::from_bytes(large_model(256)), kKeepIo);
  before.save(out, ExternalData::always);  // two files, which no rename can replace together
  const std::string old_bytes = before.bytes(), new_bytes = convert(ModelFile::open(source), kKeepIo).bytes();
  for (const int milliseconds : {5, 20, 60, 120, 200}) {
    const pid_t child = ::fork();
    if (child == 0) {
      convert(ModelFile::open(source), kKeepIo).save(out, ExternalData::always);
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string found = convert(ModelFile::open(out), kKeepIo).bytes();
    EXPECT_TRUE(found == old_bytes || found == new_bytes) << "after " << milliseconds << " ms";
  }
}

}  // namespace
}  // namespace halfstep
