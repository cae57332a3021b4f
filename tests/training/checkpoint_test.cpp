#include <limits>

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/safetensors.h"
#include "tests/temporary_directory.h"
#include <halfstep/training/checkpoint.h>

namespace halfstep {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::UnorderedElementsAre;

constexpr auto kInput = Error::Kind::input;
constexpr auto kFailure = Error::Kind::failure;

Checkpoint sample(std::int64_t step) {
  Checkpoint c;
  c.tensors["dense.weight"] = Tensor::of<float>({1, -2, 3.5f, static_cast<float>(step)}, Shape{2, 2});
  c.tensors["dense.bias"] = Tensor::of<float>({0, 1});
  c.tensors["adam.m/dense.weight"] = Tensor(DType::f32, Shape{2, 2});
  c.tensors["loss_scale"] = Tensor::scalar(65536.0f);
  c.tensors["loss_scale.good_steps"] = Tensor::scalar<std::int64_t>(0);
  c.state = {.step = step,
             .epoch = 2,
             .position = 96,
             .optimizer = "adam",
             .model_fingerprint = "f00d",
             .settings = {{"--seed", "18446744073709551615"}, {"--data", "mnist \"quoted\""}}};
  return c;
}

void expect_equal(const Checkpoint& a, const Checkpoint& b) {
  EXPECT_EQ(a.state, b.state);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(identical(tensor, b.tensors.at(name))) << name;
}

ResumeTarget target_of(const Checkpoint& c) {
  return {.model_fingerprint = c.state.model_fingerprint,
          .optimizer = c.state.optimizer,
          .tensors = c.tensors,
          .roles = {},
          .rows = 100,
          .settings = c.state.settings};
}

TEST(Checkpoint, RoomIsAskedForTheNewestTheOneBeforeAndOneBeingWritten) {
  TemporaryDirectory dir;
  const std::uintmax_t room = std::filesystem::space(dir.path()).available;
  EXPECT_NO_THROW(prepare_checkpoint_directory(dir.path(), room / 4));
  EXPECT_THAT(error_of(kFailure, [&] { prepare_checkpoint_directory(dir.path(), room / 2); }), HasSubstr("free space"));
  // What is there already is replaced. The files have no blocks, so that they take no room.
  for (const char* name : {kCheckpointFile, kPreviousCheckpointFile}) {
    write_text(dir / name, "");
    std::filesystem::resize_file(dir / name, room / 2);
  }
  EXPECT_NO_THROW(prepare_checkpoint_directory(dir.path(), room / 2));
}

TEST(Checkpoint, RoundTrip) {
  TemporaryDirectory dir;
  Checkpoint saved = sample(5);
  saved.tensors["accumulator.w"] = Tensor::of<float>({0, std::numeric_limits<float>::quiet_NaN()});
  save_checkpoint(dir.path(), saved);
  const LoadedCheckpoint loaded = load_checkpoint(dir.path());
  expect_equal(loaded.checkpoint, saved);
  EXPECT_EQ(loaded.notice, "");
  EXPECT_EQ(loaded.file, dir / kCheckpointFile);
  EXPECT_THAT(dir.names(), ElementsAre(kCheckpointFile));
}

TEST(Checkpoint, KeepsTheOneBefore) {
  TemporaryDirectory dir;
  for (const std::int64_t step : {1, 2, 3}) save_checkpoint(dir.path(), sample(step));
  EXPECT_THAT(dir.names(), UnorderedElementsAre(kCheckpointFile, kPreviousCheckpointFile));
  EXPECT_EQ(load_checkpoint(dir.path()).checkpoint.state.step, 3);
  std::filesystem::remove(dir / kCheckpointFile);
  const LoadedCheckpoint loaded = load_checkpoint(dir.path());
  EXPECT_EQ(loaded.checkpoint.state.step, 2);
  EXPECT_EQ(loaded.file, dir / kPreviousCheckpointFile);
  EXPECT_THAT(loaded.notice, HasSubstr("step 2"));
}

TEST(Checkpoint, AnyFlippedByteIsNoticedAndTheOneBeforeTaken) {
  TemporaryDirectory dir;
  save_checkpoint(dir.path(), sample(1));
  save_checkpoint(dir.path(), sample(2));
  const std::string whole = read_text(dir / kCheckpointFile);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    write_text(dir / kCheckpointFile, damaged);
    const LoadedCheckpoint loaded = load_checkpoint(dir.path());
    if (loaded.notice.empty())
      expect_equal(loaded.checkpoint, sample(2));  // the byte says nothing, e.g. an unused metadata key
    else
      expect_equal(loaded.checkpoint, sample(1));
    EXPECT_EQ(loaded.notice.empty(), loaded.file == dir / kCheckpointFile);
  }
}

TEST(Checkpoint, FlippedTensorByteFailsTheChecksum) {
  TemporaryDirectory dir;
  save_checkpoint(dir.path(), sample(1));
  std::string file = read_text(dir / kCheckpointFile);
  file.back() = static_cast<char>(file.back() ^ 1);
  write_text(dir / kCheckpointFile, file);
  EXPECT_THAT(error_of(kInput, [&] { load_checkpoint(dir.path()); }), HasSubstr("checksum"));
}

TEST(Checkpoint, TruncatedFilesAreNoticed) {
  TemporaryDirectory dir;
  save_checkpoint(dir.path(), sample(1));
  save_checkpoint(dir.path(), sample(2));
  const std::string whole = read_text(dir / kCheckpointFile);
  for (std::size_t sixteenth = 0; sixteenth < 16; ++sixteenth) {
    write_text(dir / kCheckpointFile, whole.substr(0, whole.size() * sixteenth / 16));
    const LoadedCheckpoint loaded = load_checkpoint(dir.path());
    EXPECT_NE(loaded.notice, "") << sixteenth;
    expect_equal(loaded.checkpoint, sample(1));
  }
}

TEST(Checkpoint, SavingAfterAFallbackKeepsAGoodOneThroughout) {
  TemporaryDirectory dir;
  save_checkpoint(dir.path(), sample(1));
  save_checkpoint(dir.path(), sample(2));
  write_text(dir / kCheckpointFile, "torn");
  save_checkpoint(dir.path(), sample(3));
  EXPECT_EQ(load_checkpoint(dir.path()).checkpoint.state.step, 3);
  EXPECT_EQ(load_checkpoint(dir.path()).notice, "");
}

TEST(Checkpoint, NothingUsableIsAnError) {
  TemporaryDirectory dir;
  EXPECT_THAT(error_of(kInput, [&] { load_checkpoint(dir.path()); }), HasSubstr(kCheckpointFile));
  EXPECT_THAT(error_of(kInput, [&] { load_checkpoint(dir / "missing"); }), HasSubstr("missing"));
  write_text(dir / kCheckpointFile, "torn");
  EXPECT_THAT(error_of(kInput, [&] { load_checkpoint(dir.path()); }), HasSubstr("undamaged"));
  write_text(dir / kPreviousCheckpointFile, "");
  EXPECT_THAT(error_of(kInput, [&] { load_checkpoint(dir.path()); }),
              AllOf(HasSubstr("checkpoint.safetensors"), HasSubstr("checkpoint.prev.safetensors")));
}

TEST(Checkpoint, AForeignSafetensorsFileIsNotACheckpoint) {
  TemporaryDirectory dir;
  write_safetensors(dir / kCheckpointFile, {{{"w", Tensor::scalar(1.0f)}}, {{"format", "pt"}}});
  EXPECT_THAT(error_of(kInput, [&] { load_checkpoint(dir.path()); }), HasSubstr("a halfstep checkpoint"));
}

TEST(Checkpoint, AnotherVersionIsNamed) {
  TemporaryDirectory dir;
  save_checkpoint(dir.path(), sample(1));
  Safetensors file = read_safetensors(dir / kCheckpointFile);
  file.metadata["halfstep.checkpoint"] = "99";
  write_safetensors(dir / kCheckpointFile, file);
  EXPECT_THAT(error_of(kInput, [&] { load_checkpoint(dir.path()); }), HasSubstr("version 99"));
}

TEST(Checkpoint, ALeftoverTemporaryFileDoesNotDisturb) {
  TemporaryDirectory dir;
  save_checkpoint(dir.path(), sample(1));
  write_text(dir / ".checkpoint.safetensors.abcdef.tmp", "half of a checkpoint");
  EXPECT_EQ(load_checkpoint(dir.path()).notice, "");
  save_checkpoint(dir.path(), sample(2));
  EXPECT_EQ(load_checkpoint(dir.path()).checkpoint.state.step, 2);
  EXPECT_THAT(dir.names(), UnorderedElementsAre(kCheckpointFile, kPreviousCheckpointFile));
}

TEST(Checkpoint, AFullDiskLeavesBothOldOnes) {
  TemporaryDirectory dir;
  save_checkpoint(dir.path(), sample(1));
  save_checkpoint(dir.path(), sample(2));
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{256, 256};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      save_checkpoint(dir.path(), sample(3));
    } catch (const Error& e) {
      ::_exit(e.kind() == kFailure ? 42 : 43);
    }
    ::_exit(44);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(load_checkpoint(dir.path()).checkpoint.state.step, 2);
  std::filesystem::remove(dir / kCheckpointFile);
  EXPECT_EQ(load_checkpoint(dir.path()).checkpoint.state.step, 1);
}

TEST(Checkpoint, ResumableWhereAllFits) {
  EXPECT_THAT(check_resumable(sample(1), target_of(sample(2))), ElementsAre());
}

TEST(Checkpoint, AnotherModelIsRefusedNamingItsTensors) {
  ResumeTarget target = target_of(sample(1));
  target.model_fingerprint = "beef";
  EXPECT_THAT(error_of(kInput, [&] { check_resumable(sample(1), target); }), HasSubstr("the operators differ"));

  target.tensors.erase("dense.bias");
  target.tensors["conv.weight"] = Tensor::scalar(1.0f);
  target.tensors["dense.weight"] = Tensor(DType::f32, Shape{2, 3});
  EXPECT_THAT(error_of(kInput, [&] { check_resumable(sample(1), target); }),
              AllOf(HasSubstr("another model"), HasSubstr("missing tensors: conv.weight"),
                    HasSubstr("unexpected tensors: dense.bias"),
                    HasSubstr("dense.weight is f32[2, 2] and should be f32[2, 3]")));

  for (int i = 0; i < 20; ++i) target.tensors["t" + std::to_string(i)] = Tensor::scalar(1.0f);
  EXPECT_THAT(error_of(kInput, [&] { check_resumable(sample(1), target); }),
              AllOf(HasSubstr("and 15 more"), Not(HasSubstr("t9"))));
}

TEST(Checkpoint, AnotherOptimizerIsRefused) {
  ResumeTarget target = target_of(sample(1));
  target.optimizer = "sgd";
  EXPECT_THAT(error_of(kInput, [&] { check_resumable(sample(1), target); }),
              AllOf(HasSubstr("'sgd'"), HasSubstr("--optimizer adam")));
}

TEST(Checkpoint, OtherStateOfTheSameModelIsRefused) {
  ResumeTarget target = target_of(sample(1));
  target.tensors["loss_scale"] = Tensor::scalar<double>(1);
  EXPECT_THAT(error_of(kInput, [&] { check_resumable(sample(1), target); }), HasSubstr("loss_scale is f32[]"));
}

TEST(Checkpoint, PreparesItsDirectory) {
  TemporaryDirectory dir;
  prepare_checkpoint_directory(dir / "a/b");
  save_checkpoint(dir / "a/b", sample(1));
  prepare_checkpoint_directory(dir / "a/b");
  EXPECT_EQ(load_checkpoint(dir / "a/b").checkpoint.state.step, 1);

  write_text(dir / "file", "");
  EXPECT_THAT(error_of(kInput, [&] { prepare_checkpoint_directory(dir / "file"); }), HasSubstr("a file in its place"));
  EXPECT_THAT(error_of(kInput, [&] { prepare_checkpoint_directory("/dev/null/x"); }), HasSubstr("a file in its place"));
  std::filesystem::create_symlink("nowhere", dir / "link");
  for (const char* folder : {"link", "link/in"})
    EXPECT_THAT(error_of(kInput, [&] { prepare_checkpoint_directory(dir / folder); }),
                HasSubstr("link, a link to nowhere, where nothing is"));
  EXPECT_THAT(error_of(kFailure, [&] { prepare_checkpoint_directory(dir.path(), std::uint64_t{1} << 62); }),
              HasSubstr("free space"));
  EXPECT_THAT(error_of(kFailure, [&] { prepare_checkpoint_directory("/proc/x"); }), HasSubstr("/proc/x"));
  EXPECT_THAT(error_of(kFailure, [&] { save_checkpoint("/dev/null/x", sample(1)); }), HasSubstr("/dev/null/x"));
}

}  // namespace
}  // namespace halfstep
