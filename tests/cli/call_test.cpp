// Mistyped calls: what was wrong, and what was probably meant.
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace halfstep {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(CliTest, MistypedCallsAreToldWhatWasMeant) {
  struct Case {
    const char* arguments;
    const char* error;
    const char* hint;
  };
  const Case cases[] = {
      {"trian mlp.onnx --data x.npy,y.npy", "a command, got 'trian'", "did you mean 'train'?"},
      {"eval mlp.onnx", "a command, got 'eval'", "did you mean 'evaluate'?"},
      {"paint", "a command, got 'paint'", "'halfstep --help' lists the commands"},
      {"version", "a command, got 'version'", "did you mean '--version'?"},
      {"--verison", "a command, got '--verison'", "did you mean '--version'?"},
      {"convert mlp.onnx --precision fp16 half.onnx", "no further argument, got 'half.onnx'",
       "did you mean '--output half.onnx'?"},
      {"run mlp.onnx x.npy -o out.npz", "no further argument, got 'x.npy'", "did you mean '--input x.npy'?"},
      {"run mlp.onnx --input . -o out.npz", "an NPY, NPZ or IDX file of input, got the folder .", "numpy.save"},
      {"convert mlp.onnx -o half.onnx", "--precision NAME, got none", "gives an example"},
      {"check --op relu", "got 'relu'", "did you mean 'Relu'?"},
      {"help trian", "a command, got 'trian'", "did you mean 'train'?"},
      {"mlp.onnx train --data x.npy,y.npy", "the command first, got 'mlp.onnx'", "write halfstep train mlp.onnx …"},
      {"train mlp.onnx --data x.npy,y.npy --epoch 3", "a flag of halfstep train, got '--epoch'",
       "did you mean '--epochs'?"},
      {"train --epoch 3 mlp.onnx --data x.npy,y.npy", "a flag of halfstep train, got '--epoch'",
       "did you mean '--epochs'?"},
      {"train mlp.onnx --dta x.npy,y.npy", "a flag of halfstep train, got '--dta'", "did you mean '--data'?"},
      {"train mlp.onnx --data=x.npy,y.npy --outptu=t.onnx", "got '--outptu=t.onnx'", "did you mean '--output'?"},
      {"train mlp.onnx --data x.npy,y.npy --out t.onnx", "got '--out'", "did you mean '--output'?"},
      {"train mlp.onnx --data x.npy,y.npy --batch-size 8", "got '--batch-size'", "did you mean '--batch'?"},
      {"train mlp.onnx --data x.npy,y.npy --learning-rate 1", "got '--learning-rate'", "did you mean '--lr'?"},
      {"train mlp.onnx --data x.npy,y.npy --device gpu", "expected the device 'gpu', got none: ", "halfstep devices"},
      {"train mlp.onnx --data x.npy,y.npy -lr 0.1", "two dashes, got '-lr'", "did you mean '--lr'?"},
      {"train mlp.onnx --data x.npy,y.npy -output t.onnx", "two dashes, got '-output'", "did you mean '--output'?"},
      {"convert mlp.onnx --data x.npy", "a flag of halfstep convert, got '--data'",
       "--data is a flag of train, evaluate"},
      {"train mlp.onnx --data x.npy,y.npy --colour red", "got '--colour'", "'halfstep train --help' lists the flags"},
      {"train mlp.onnx", "--data DATA, got none", "'halfstep train --help' gives an example"},
      {"train --data x.npy,y.npy", "MODEL.onnx, got none", "'halfstep train --help' gives an example"},
      {"run mlp.onnx --input x.npy", "--output OUT.npz, got none", "'halfstep run --help' gives an example"},
      {"train mlp.onnx --data x.npy y.npy", "no further argument, got 'y.npy'", "write x.npy,y.npy without a space"},
      {"check --kind onnx", "--cases with --kind onnx, got none", "name a folder of ONNX test cases"},
      {"check --kind mutation", "--cases with --kind mutation, got none", "name a folder of ONNX test cases"},
      {"check --kind mutation --cases .", "--mutate with --kind mutation, got none", "--mutate 100"},
      {"check --kind program --cases .", "--kind onnx with --cases, got --kind program", "omit --kind"},
      {"check --op Relu --crash-file none/at_work", "can be written: none/at_work, got no folder none",
       "create the folder"},
      {"check --kind program --dtype f32", "special or statistics with --dtype, got --kind program", "omit --dtype"},
      {"train mlp.onnx --data x.npy,y.npy --no-shuffle yes", "no further argument, got 'yes'",
       "--no-shuffle takes no value"},
      {"train mlp.onnx --data x.npy,y.npy --lr", "a value for --lr, got none",
       "'halfstep train --help' lists the flags"},
      {"train mlp.onnx --lr --data x.npy,y.npy", "for --lr, got", ""},
      {"train mlp.onnx --data --epochs 3", "a value for --data, got the flag --epochs", ""},
      {"train mlp.onnx --data x.npy,y.npy --lr 0.1 --lr 0.2", "--lr once, got it 2 times", "omit one"},
      {"train mlp.onnx --data x.npy,y.npy --epochs 1 --steps 1", "one of --epochs and --steps, got both", "omit one"},
      {"inspect mlp.onnx --training x.npy,y.npy", "--plan or --memory with --training, got none", "add --plan"},
      {"inspect mlp.onnx --describe-device mlp.onnx", "--plan with --describe-device, got none", "add --plan"},
      {"inspect mlp.onnx --plan --executor cudnn --describe-device none.json",
       "a file for --describe-device, got nothing at none.json", "check the path"},
      {"inspect mlp.onnx --plan --executor cudnn --describe-device .", "a file for --describe-device, got the folder .",
       "a file in it"},
      {"inspect mlp.onnx --device cuda:0", "--plan or --memory with --device, got none", "add --plan"},
      {"inspect mlp.onnx --plan --device cuda:0 --describe-device mlp.onnx", "no device of this machine", "omit"},
      {"run mlp.onnx --input x.npy -o y.npz --executor onednn --device cuda:0",
       "expected the device 'cuda:0', got none: onednn computes on the CPU", "halfstep devices"},
      {"run mlp.onnx --input x.npy -o y.npz --device cuda:999",
       "expected the device 'cuda:999', got none: ", "halfstep devices"},
      {"run mlp.onnx --input x.npy -o y.npz --device=", "--device", ""},
      {"inspect mlp.onnx --plan --executor onednn --describe-device mlp.onnx",
       "an executor that plans for devices that are described, got 'onednn'", "--executor cudnn"},
      {"train mlp.onnx --data x.npy,y.npy --lr fast", "a number of at least 0 for --lr, got 'fast'", ""},
      {"train mlp.onnx --data x.npy,y.npy --lr 0x10", "a number of at least 0 for --lr, got '0x10'", ""},
      {"train mlp.onnx --data x.npy,y.npy --loss-scale 0x10", "a number for --loss-scale, got '0x10'", ""},
      {"train mlp.onnx --data x.npy,y.npy --mean 1,0x10", "a number for --mean, got '0x10'", ""},
      {"train mlp.onnx --data x.npy,y.npy --average 0x1p-1", "a number for --average, got '0x1p-1'", ""},
      {"train mlp.onnx --data x.npy,y.npy --huber-delta 0x1", "a number for --huber-delta, got '0x1'", ""},
      {"train mlp.onnx --data x.npy,y.npy --lr=-1", "a number of at least 0 for --lr, got '-1'", ""},
      {"train mlp.onnx --data x.npy,y.npy --lr inf", "a number of at least 0 for --lr, got 'inf'", ""},
      {"train mlp.onnx --data x.npy,y.npy --momentum 2", "a number from 0 to 1 for --momentum, got '2'", ""},
      {"train mlp.onnx --data x.npy,y.npy --epochs 1.5",
       "a whole number from 1 to 1099511627776 for --epochs, got '1.5'", ""},
      {"train mlp.onnx --data x.npy,y.npy --steps 010", "a whole number from 1 to 1099511627776 for --steps, got '010'",
       ""},
      {"train mlp.onnx --data x.npy,y.npy --threads 5000", "a whole number from 0 to 4096 for --threads, got '5000'",
       ""},
      {"train mlp.onnx --data x.npy,y.npy --output-form trainign",
       "inference or training for --output-form, got 'trainign'", "did you mean 'training'?"},
      {"train mlp.onnx --data x.npy,y.npy --mean 1,x", "a number for --mean, got 'x'", ""},
      {"train mlp.onnx --data x.npy,y.npy --std x", "a number for --std, got 'x'", ""},
      {"train mlp.onnx --data x.npy,y.npy --loss-scale x", "a number for --loss-scale, got 'x'", ""},
      {"train mlp.onnx --data x.npy,y.npy --class-axis x", "a whole number for --class-axis, got 'x'", ""},
      {"train mlp.onnx --data x.npy,y.npy --ignore-label 1.5", "a whole number for --ignore-label, got '1.5'", ""},
      {"train mlp.onnx --data x.npy,y.npy --class-axis 010", "a whole number for --class-axis, got '010'", "decimal"},
      {"train mlp.onnx --data x.npy,y.npy --ignore-label 010", "a whole number for --ignore-label, got '010'",
       "decimal"},
      {"train mlp.onnx --data x.npy,y.npy --ignore-label 9223372036854775808",
       "a whole number for --ignore-label, got '9223372036854775808'", "within 64 bits"},
      {"train mlp.onnx --data x.npy,y.npy --max-skipped 010", "a whole number for --max-skipped, got '010'", "decimal"},
      {"train mlp.onnx --data x.npy,y.npy --max-skipped x", "a whole number for --max-skipped, got 'x'", ""},
      {"train mlp.onnx --data x.npy,y.npy --checkpoint-every 5", "--checkpoint or --resume with --checkpoint-every",
       "name a folder"},
      {"train mlp.onnx --data x.npy,y.npy --log-grad-norms", "--log with --log-grad-norms, got none", "add --log"},
      {"train mlp.onnx --data x.npy,y.npy --classes a,b", "--classes for a table or a folder of images, got arrays",
       "omit the flag"},
      {"train mlp.onnx --data x.npy,y.npy --image-size 28", "--image-size for a folder of images, got arrays",
       "omit the flag"},
      {"evaluate mlp.onnx --data x.npy,y.npy --label-column 1", "--label-column for a table, got arrays",
       "omit the flag"},
      {"train mlp.onnx --data x.npy,y.npy --loss output --class-weights 1,2",
       "a loss over classes, for class weights, got --loss output", "omit them"},
      {"run mlp.onnx --input x.npy -o out.npz --classes a,b", "a flag of halfstep run, got '--classes'",
       "--classes is a flag of train"},
      {"convert mlp.onnx -o out.onnx --precision fp16 --label-column 1", "got '--label-column'",
       "--label-column is a flag of train"},
      {"convert mlp.onnx -o out.onnx --precision fp32", "fp16 or bf16 for --precision, got 'fp32'", ""},
  };
  for (const Case& c : cases) {
    const Outcome outcome = run(c.arguments);
    EXPECT_EQ(outcome.exit_code, 2) << c.arguments << "\n" << outcome.text;
    EXPECT_THAT(outcome.text, testing::StartsWith("halfstep: error: expected ")) << c.arguments;
    EXPECT_THAT(outcome.text, HasSubstr(c.error)) << c.arguments;
    if (*c.hint) {
      EXPECT_THAT(outcome.text, testing::AllOf(HasSubstr("\nHint: "), HasSubstr(c.hint))) << c.arguments;
    }
    EXPECT_EQ(outcome.output, "") << c.arguments;
  }
}

TEST_F(CliTest, LostResultIsToldBeforeTraining) {
  const Outcome without = run("train mlp.onnx --data x.npy,y.npy --steps 2");
  ASSERT_EQ(without.exit_code, 0) << without.text;
  EXPECT_THAT(without.text, HasSubstr("halfstep: the trained model will not be written: -o TRAINED.onnx writes it\n"));
  const Outcome kept = run("train mlp.onnx --data x.npy,y.npy --steps 2 --checkpoint kept");
  EXPECT_THAT(kept.text, HasSubstr("the trained model will only be in the checkpoint in kept"));
  const Outcome with = run("train mlp.onnx --data x.npy,y.npy --steps 2 -o trained.onnx");
  EXPECT_THAT(with.text, Not(HasSubstr("-o TRAINED.onnx")));
  // Before: while a run can be stopped. What cannot be trained at all is told alone.
  const Outcome diverging = run(
      "train mlp.onnx --data x.npy,y.npy --optimizer sgd --lr 1e30 --precision fp32 --executor reference --steps 2000");
  EXPECT_EQ(diverging.exit_code, 1) << diverging.text;
  EXPECT_THAT(diverging.text, HasSubstr("will not be written"));
}

TEST_F(CliTest, PathsMayHaveSpaces) {
  const std::filesystem::path folder = folder_ / "a folder";
  std::filesystem::create_directory(folder);
  for (const char* name : {"mlp.onnx", "x.npy", "y.npy"}) std::filesystem::copy(folder_ / name, folder / name);
  const Outcome outcome =
      run("train 'a folder/mlp.onnx' --data 'a folder/x.npy,a folder/y.npy' --steps 1 --checkpoint 'a folder/c p' "
          "-o 'a folder/the model.onnx' --log 'a folder/the log.jsonl'");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  for (const char* name : {"the model.onnx", "the log.jsonl", "c p/checkpoint.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(folder / name)) << name;
}

}  // namespace
}  // namespace halfstep
