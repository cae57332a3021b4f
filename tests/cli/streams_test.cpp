// Standard output and error that are closed, full or gone, signals, and text from files that a terminal would obey.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "tests/cli/program.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Streams : public CliTest {
 protected:
  /// The exit code of a line of shell in which P is the program; 128 and more after a signal.
  int shell(const std::string& line) const {
    const std::string text = "cd '" + folder_.string() + "' || exit 125; P='" HALFSTEP_PROGRAM "'; " + line;
    const int status = std::system(text.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string text_of(const char* name) const {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  /// What a model of weight "w" and such names prints nothing of as it is.
  void save_named(const std::string& name) const {
    LoadedModel model = parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m (float[N, 784] x) => (float[N, 10] y)
      <int64[1] axes = {1}, float[1, 10] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}>
      { s = ReduceSum<keepdims = 1>(x, axes) y = MatMul(s, w) })");
    for (Value& value : model.graph.values)
      if (value.name == "w" || value.name == "y") value.name = value.name + name;
    for (std::size_t n = 0; n < model.graph.nodes.size(); ++n)
      model.graph.edit(n)->name = model.graph.nodes[n].op + name;
    save_model(model.graph, folder_ / "named.onnx");
  }
};

// Each prints a notice: that what was trained is not kept, or what is wrong.
TEST_F(Streams, AnErrorStreamThatTakesNothingChangesNothing) {
  const struct {
    const char* arguments;
    int exit_code;
  } cases[] = {
      {"train mlp.onnx --data x.npy,y.npy --steps 2", 0},
      {"train mlp.onnx --data x.npy,y.npy --steps 2 -o trained.onnx", 0},
      {"train mlp.onnx --data x.npy,short.npy", 2},
      {"train mlp.onnx --colour red", 2},
      {"inspect garbage.onnx", 2},
      {"run mlp.onnx --input x.npy -o out.npz", 0},
      {"convert mlp.onnx -o half.onnx --precision bf16 --calibrate x.npy --max-error 1 --executor reference", 0},
      {"devices", 0},
      {"check --op Relu --case Relu/0", 0},
  };
  for (const auto& c : cases)
    for (const char* redirection : {"2>/dev/full", "2>&-"})
      EXPECT_EQ(shell(std::string("\"$P\" ") + c.arguments + " >/dev/null " + redirection), c.exit_code)
          << c.arguments << " " << redirection;
  EXPECT_TRUE(fs::exists(folder_ / "trained.onnx"));
}

TEST_F(Streams, OutputThatIsLostIsAFailureThatIsTold) {
  const char* const cases[] = {
      "inspect mlp.onnx",
      "inspect mlp.onnx --plan --parameters --json",
      "evaluate mlp.onnx --data x.npy,y.npy",
      "evaluate mlp.onnx --data x.npy,y.npy --json",
      "devices",
      "devices --json",
      "check --op Relu --case Relu/0",
      "check --op Relu --case Relu/0 --json",
      "check --markdown",
      "run mlp.onnx --input x.npy -o out.npz",
      "convert mlp.onnx -o half.onnx --precision fp16",
      "train mlp.onnx --data x.npy,y.npy --steps 2 -o trained.onnx --checkpoint checkpoint",
      "--help",
      "train --help",
      "--version",
  };
  for (const std::string arguments : cases)
    for (const char* redirection : {">/dev/full", ">&-"}) {
      EXPECT_EQ(shell("\"$P\" " + arguments + " " + redirection + " 2>errors"), 1) << arguments << " " << redirection;
      EXPECT_THAT(text_of("errors"), HasSubstr("halfstep: error: expected a writable standard output")) << arguments;
    }
  for (const char* written : {"out.npz", "half.onnx", "trained.onnx", "checkpoint/checkpoint.safetensors"})
    EXPECT_TRUE(fs::exists(folder_ / written)) << written;
}

TEST_F(Streams, NoFileTakesThePlaceOfAClosedStream) {
  const std::string train = "\"$P\" train mlp.onnx --data x.npy,y.npy --steps 2 --seed 1 --precision fp32 --threads 1";
  ASSERT_EQ(shell(train + " -o whole.onnx >/dev/null 2>&1"), 0);
  for (const char* redirection : {"<&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"}) {
    const bool closed_output = std::string(redirection).find(" >&-") != std::string::npos;
    EXPECT_EQ(shell(train + " -o closed.onnx --log log.jsonl " + redirection + (closed_output ? "" : " >/dev/null")),
              closed_output ? 1 : 0)
        << redirection;
    EXPECT_TRUE(text_of("closed.onnx") == text_of("whole.onnx")) << redirection;
    EXPECT_EQ(read_log("log.jsonl").size(), 2u) << redirection;
  }
}

/// A run that goes on until it is stopped, as the shell's $!, with its first steps done.
std::string start_and_wait(const std::string& redirection) {
  return "rm -f log.jsonl trained.onnx; { exec \"$P\" train mlp.onnx --data x.npy,y.npy --epochs 100000000 "
         "--checkpoint "
         "checkpoint --checkpoint-every 100000000 --log log.jsonl -o trained.onnx " +
         redirection + "; } & run=$!; while kill -0 $run && [ ! -s log.jsonl ]; do sleep 0.05; done; ";
}

TEST_F(Streams, SignalsStopARunAndLeaveWhatItHas) {
  const struct {
    const char* signal;
    int exit_code;
  } cases[] = {{"INT", 130}, {"TERM", 143}, {"HUP", 129}, {"PIPE", 141}};
  for (const auto& c : cases) {
    fs::remove_all(folder_ / "checkpoint");
    EXPECT_EQ(shell(start_and_wait(">output 2>&1") + "kill -" + c.signal + " $run; wait $run"), c.exit_code)
        << c.signal;
    EXPECT_TRUE(fs::exists(folder_ / "checkpoint" / "checkpoint.safetensors")) << c.signal;
    EXPECT_TRUE(fs::exists(folder_ / "trained.onnx")) << c.signal;
    EXPECT_THAT(text_of("output"), HasSubstr("stopped after step")) << c.signal;
    EXPECT_THAT(text_of("output"),
                HasSubstr("halfstep train --config trained.toml --resume checkpoint continues from here"))
        << c.signal;
  }
}

TEST_F(Streams, AReaderThatLeavesStopsARun) {
  ASSERT_EQ(shell("mkfifo pipe"), 0);
  // The reader takes the header and the first epoch's line; those that follow find it gone.
  EXPECT_EQ(shell("head -n 8 pipe >head & " + start_and_wait(">pipe 2>errors") + "wait $run"), 141);
  EXPECT_TRUE(fs::exists(folder_ / "checkpoint" / "checkpoint.safetensors"));
  EXPECT_TRUE(fs::exists(folder_ / "trained.onnx"));
}

TEST_F(Streams, AnIgnoredHangupStaysIgnored) {
  EXPECT_EQ(shell("trap '' HUP; " + start_and_wait(">output 2>&1") +
                  "kill -HUP $run; sleep 0.3; kill -0 $run && kill -TERM $run; wait $run"),
            143);
}

TEST_F(Streams, NothingOfANameReachesATerminalOrALogAsItIs) {
  const std::string evil = "\x1b]0;owned\x07\nhalfstep: all is well\xe2\x80\xae\xff";
  const std::string shown = "\\x1b]0;owned\\x07\\nhalfstep: all is well\\u202e\\xff";
  save_named(evil.substr(0, evil.size() - 1));  // ONNX's names are UTF-8
  const char* const cases[] = {
      "inspect named.onnx --parameters --plan",
      "inspect named.onnx --parameters --plan --json",
      "train named.onnx --data x.npy,y.npy --steps 2 --freeze nobody",
      "train named.onnx --data x.npy,y.npy --steps 2 --log log.jsonl --log-grad-norms",
      "run named.onnx --input x.npy -o out.npz",
      "run named.onnx --input short.npy -o out.npz",
      "convert named.onnx -o half.onnx --precision fp16 --keep-io-types --verify x.npy --report r.json --report r.html",
      "convert named.onnx -o half.onnx --precision fp16 --keep-io-types=nobody",
  };
  for (const char* arguments : cases) {
    const std::string text = run(arguments).text;
    for (const char* bad : {"\x1b", "\x07", "\xe2\x80\xae", "\nhalfstep: all is well"})
      EXPECT_THAT(text, Not(HasSubstr(bad))) << arguments;
  }
  EXPECT_THAT(run("inspect named.onnx").text, HasSubstr("y" + shown.substr(0, shown.size() - 4)));
  for (const char* file : {"log.jsonl", "r.json", "r.html"})
    for (const char* bad : {"\x1b", "\x07", "\xe2\x80\xae", "\nhalfstep: all is well"})
      EXPECT_THAT(text_of(file), AllOf(Not(HasSubstr(bad)), HasSubstr("owned"))) << file;
  const std::string missing = run("inspect '" + evil + "'").text;
  EXPECT_THAT(missing, AllOf(HasSubstr(shown), Not(HasSubstr("\x1b"))));
}

TEST_F(Streams, ALibraryInTheCurrentFolderIsNotLoaded) {
  for (const char* library : {"libz.so.1", "libdnnl.so.3", "libfmt.so.9", "libprotobuf.so.32", "libhwy.so.1"})
    std::ofstream(folder_ / library) << "no library";
  const Outcome outcome = run("devices");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
}

// What writes to a stream must not throw where it is full, and must not pass names on: print_out, print_to and
// print_message see to both.
TEST(Sinks, TheProgramPrintsThroughOneFunction) {
  for (const char* folder : {"base", "cli", "training", "conversion", "data", "formats", "onnx_io", "graph"})
    for (const auto& entry : fs::directory_iterator(test::source_dir() / folder)) {
      std::ifstream file(entry.path());
      const std::string text(std::istreambuf_iterator<char>(file), {});
      for (const char* sink : {"fmt::print(", "std::cout", "std::cerr", "printf(", "fputs(", "std::puts("})
        EXPECT_THAT(text, Not(HasSubstr(sink))) << entry.path() << " prints by itself";
    }
}

}  // namespace
}  // namespace halfstep
