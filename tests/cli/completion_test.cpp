// What a shell completes, asked of bash itself.
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace halfstep {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;
using testing::UnorderedElementsAre;

class Completion : public CliTest {
 protected:
  /// What bash offers for the last of the words, in the folder of the test.
  std::vector<std::string> complete(const std::string& words) const {
    const std::string path = (folder_ / "completed").string();
    std::ofstream(folder_ / "ask.sh") << "source ./script\nCOMP_WORDS=(" << words
                                      << ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_halfstep\n"
                                         "printf '%s\\n' \"${COMPREPLY[@]}\" >completed\n";
    const std::string command =
        "cd '" + folder_.string() + "' && '" HALFSTEP_PROGRAM "' completion bash >script && bash ask.sh";
    EXPECT_EQ(std::system(command.c_str()), 0);
    std::vector<std::string> lines;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);)
      if (!line.empty()) lines.push_back(line);
    return lines;
  }
};

TEST_F(Completion, CommandsFlagsAndChoices) {
  EXPECT_THAT(complete("halfstep ''"), AllOf(Contains("train"), Contains("completion"), Contains("--version")));
  EXPECT_THAT(complete("halfstep ev"), ElementsAre("evaluate"));
  EXPECT_THAT(complete("halfstep train m.onnx --opt"), ElementsAre("--optimizer"));
  EXPECT_THAT(complete("halfstep train --optimizer ada"),
              AllOf(IsSupersetOf({"adam", "adamw", "adagrad"}), Not(Contains("sgd"))));
  EXPECT_THAT(complete("halfstep train --optimizer = sg"), ElementsAre("sgd"));
  EXPECT_THAT(complete("halfstep train --optimizer ="), Contains("lion"));
  EXPECT_THAT(complete("halfstep train --precision b"), ElementsAre("bf16"));
  EXPECT_THAT(complete("halfstep train --loss hu"), ElementsAre("huber"));
  EXPECT_THAT(complete("halfstep train --output-form ''"), ElementsAre("inference", "training"));
  EXPECT_THAT(complete("halfstep train --lr ''"), IsEmpty());
  EXPECT_THAT(complete("halfstep convert --metadata d"), ElementsAre("drop"));
  EXPECT_THAT(complete("halfstep check --kind s"), UnorderedElementsAre("special", "statistics"));
  EXPECT_THAT(complete("halfstep run --ep"), IsEmpty());
  EXPECT_THAT(complete("halfstep help ins"), ElementsAre("inspect"));
  EXPECT_THAT(complete("halfstep completion ''"), ElementsAre("bash", "zsh"));
}

TEST_F(Completion, Files) {
  std::filesystem::create_directory(folder_ / "mlp folder");
  EXPECT_THAT(complete("halfstep train ml"), UnorderedElementsAre("mlp.onnx", "mlp folder"));
  EXPECT_THAT(complete("halfstep train mlp.onnx --data x"), ElementsAre("x.npy"));
  EXPECT_THAT(complete("halfstep train mlp.onnx --checkpoint ml"), ElementsAre("mlp folder"));
  EXPECT_THAT(complete("halfstep run mlp.onnx -o ga"), ElementsAre("garbage.onnx"));
}

TEST_F(Completion, OtherShells) {
  const Outcome zsh = run("completion zsh");
  EXPECT_EQ(zsh.exit_code, 0);
  EXPECT_THAT(zsh.output, AllOf(testing::StartsWith("#compdef halfstep\n"), HasSubstr("'*--output-form="),
                                HasSubstr(":(inference training)'"), HasSubstr("'1:MODEL.onnx:_files'")));
  const Outcome fish = run("completion fish");
  EXPECT_EQ(fish.exit_code, 2);
  EXPECT_THAT(fish.text, HasSubstr("expected bash or zsh for shell, got 'fish'"));
  EXPECT_THAT(run("completion").text, HasSubstr("expected SHELL, got none"));
}

}  // namespace
}  // namespace halfstep
