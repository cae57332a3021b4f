// Labels and data of every layout through the program: what it says of them, and that flags reach the training.
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/npz.h"
#include "tests/cli/program.h"
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/ops/losses/loss_def.h>

namespace halfstep {
namespace {

using testing::HasSubstr;
using testing::Not;

class Labels : public CliTest {
 protected:
  void save(const char* name, const std::string& text) const {
    save_model(parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m )" + text).graph, folder_ / name);
  }
  void write(const char* name, const std::string& text) const { std::ofstream(folder_ / name) << text; }
  std::vector<double> losses(const std::string& arguments) const {
    const Outcome outcome = run("train " + arguments + " --precision fp32 --no-shuffle --log log.jsonl");
    EXPECT_EQ(outcome.exit_code, 0) << arguments << "\n" << outcome.text;
    std::vector<double> result;
    for (const auto& line : read_log("log.jsonl"))
      if (line.contains("loss")) result.push_back(line["loss"].get<double>());
    return result;
  }
};

constexpr const char* kFlowers =
    "(float[N, 2] x) => (float[N, 3] y) <float[2, 3] w = {1, -1, 0.5, 0.25, 1, -0.5}> { y = MatMul(x, w) }";

TEST_F(Labels, OfSeveralLossesAreArraysByName) {
  save("heads.onnx",
       "(float[N, 2] x) => (float[N, 1] size, float[N, 3] kind) <float[2, 1] w = {1, -1}, "
       "float[2, 3] u = {1, -1, 0.5, 0.25, 1, -0.5}> { size = MatMul(x, w) kind = MatMul(x, u) }");
  write_npz(folder_ / "rows.npz", {{"x", Tensor::of<float>({1, 2, 3, 1, 2, 2, 1, 1}, {4, 2})},
                                   {"sizes", Tensor::of<float>({1, 2, 0, 1}, {4, 1})},
                                   {"kinds", Tensor::of<std::int64_t>({0, 2, 1, 0})}});
  const std::string flags =
      "--data rows.npz --loss size=huber --loss kind=softmax_cross_entropy --labels size=sizes --labels kind=kinds "
      "--loss-weight size=3 --huber-delta 0.5 ";
  const Outcome train = run("train heads.onnx --epochs 2 -o trained.onnx " + flags);
  EXPECT_EQ(train.exit_code, 0) << train.text;
  EXPECT_THAT(train.text, HasSubstr("loss       size=huber*3, kind=softmax_cross_entropy, metrics kind.accuracy"));
  const Outcome evaluation = run("evaluate trained.onnx --metrics size.mae,kind.accuracy --json " + flags);
  EXPECT_EQ(evaluation.exit_code, 0) << evaluation.text;
  EXPECT_THAT(evaluation.text, HasSubstr("\"size.mae\""));
  const Outcome printed = run("evaluate trained.onnx --metrics kind.accuracy " + flags);
  EXPECT_THAT(printed.output, HasSubstr("\nkind.accuracy "));
  EXPECT_THAT(printed.output, HasSubstr("\nprecision     fp32\n"));
  const struct {
    const char* flags;
    const char* says;
  } cases[] = {
      {"--data rows.npz --loss size=huber --loss l1", "each --loss as OUTPUT=LOSS"},
      {"--data rows.npz --loss sizes=huber --labels size=sizes", "got 'size=sizes'; outputs with a --loss: sizes"},
      {"--data rows.npz --loss size=huber --labels sizes", "got 'sizes'; outputs with a --loss: size"},
      {"--data rows.npz", "none beside rows.npz[x]; other arrays there: sizes, kinds"},
      {"--data rows.npz --loss size=huber --labels size=z", "labels 'z' in the data"},
      {"--data rows.npz --loss size=huber --labels size=sizes --loss-weight size=x", "a number in --loss-weight"},
      {"--data rows.npz --loss size=hinge --labels size=sizes", "a loss: "},
  };
  for (const auto& c : cases) {
    const Outcome outcome = run(std::string("train heads.onnx --epochs 1 ") + c.flags);
    EXPECT_EQ(outcome.exit_code, 2) << c.flags;
    EXPECT_THAT(outcome.text, HasSubstr(c.says)) << c.flags;
  }
}

TEST_F(Labels, NamesInTablesKeepTheirNumbers) {
  save("flowers.onnx", kFlowers);
  write("train.csv", "1,2,setosa\n3,1,virginica\n2,2,versicolor\n1,1,setosa\n");
  write("test.csv", "1;2;virginica\n3;1;setosa\n");
  write("other.csv", "1,2,tulip\n");
  const Outcome train =
      run("train flowers.onnx --data train.csv --val-data test.csv --epochs 1 --precision fp32 -o trained.onnx");
  EXPECT_EQ(train.exit_code, 0) << train.text;
  EXPECT_THAT(train.text,
              HasSubstr("setosa = 0, versicolor = 1, virginica = 2; --classes setosa,versicolor,virginica"));
  EXPECT_THAT(train.text, HasSubstr("test.csv: columns are separated by semicolons"));
  const Outcome strange = run("train flowers.onnx --data train.csv --val-data other.csv --epochs 1");
  EXPECT_EQ(strange.exit_code, 2) << strange.text;
  EXPECT_THAT(strange.text, HasSubstr("'tulip'"));
  EXPECT_THAT(strange.text, Not(HasSubstr("epoch")));
  // Two names of three classes: without their order, 'virginica' would be 1.
  const Outcome unknown = run("evaluate trained.onnx --data test.csv");
  EXPECT_EQ(unknown.exit_code, 2) << unknown.text;
  EXPECT_THAT(unknown.text, HasSubstr("--classes"));
  const Outcome known = run("evaluate trained.onnx --data test.csv --json --classes setosa,versicolor,virginica");
  EXPECT_EQ(known.exit_code, 0) << known.text;
  const auto loss = nlohmann::json::parse(known.output)["loss"].get<double>();
  EXPECT_THAT(train.text, HasSubstr(fmt::format("loss {:.6g}", loss)));
  EXPECT_EQ(run("evaluate trained.onnx --data train.csv").exit_code, 0);
}

TEST_F(Labels, ATableOfMistakesIsPrintedByEvaluate) {
  save("flowers.onnx", kFlowers);
  write("test.csv", "0,2,setosa\n3,1,virginica\n2,2,versicolor\n1,1,setosa\n");  // classes 1, 0, 0, 0 are largest
  const std::string command = "evaluate flowers.onnx --data test.csv --metrics confusion,f1,f1:2";
  const Outcome text = run(command);
  EXPECT_EQ(text.exit_code, 0) << text.text;
  EXPECT_THAT(text.output, HasSubstr("\nconfusion       setosa  versicolor   virginica\n"));
  EXPECT_THAT(text.output, HasSubstr("\nsetosa               1           1           0\n"));
  EXPECT_THAT(text.output, HasSubstr("\nversicolor           1           0           0\n"));
  const Outcome outcome = run(command + " --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const auto metrics = nlohmann::json::parse(outcome.output)["metrics"];
  const nlohmann::json names{"setosa", "versicolor", "virginica"};
  EXPECT_EQ(metrics["confusion"]["labels"], names);
  EXPECT_EQ(metrics["confusion"]["outputs"], names);
  EXPECT_EQ(metrics["confusion"]["counts"], nlohmann::json::parse("[[1, 1, 0], [1, 0, 0], [1, 0, 0]]"));
  EXPECT_NEAR(metrics["f1"].get<double>(), 2 * 1.0 / (2 + 3) / 3, 1e-12);
  EXPECT_EQ(metrics["f1:2"], 0);
  const Outcome train = run("train flowers.onnx --data test.csv --metrics confusion --epochs 1");
  EXPECT_EQ(train.exit_code, 2) << train.text;
  EXPECT_THAT(train.text, HasSubstr("evaluate"));
}

TEST_F(Labels, NumbersOfLossesAndSchedulesReachTheTraining) {
  save("column.onnx", "(float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, -1}> { y = MatMul(x, w) }");
  write("far.csv", "1,2,9\n2,1,9\n");
  write("bits.csv", "1,2,1\n2,1,0\n3,1,-100\n");
  const std::string far = "column.onnx --data far.csv --batch 2 --steps 1 --loss huber";
  // Distances of 10 and 8: delta * (distance - delta / 2).
  EXPECT_NEAR(losses(far).at(0), 8.5, 1e-6);
  EXPECT_NEAR(losses(far + " --huber-delta 0.5").at(0), 0.5 * 8.75, 1e-6);
  EXPECT_NEAR(losses(far + " --huber-delta 9").at(0), (9 * (10 - 4.5) + 32) / 2, 1e-5);
  const std::string bits = "column.onnx --data bits.csv --batch 3 --steps 1 --optimizer sgd";
  // Scores -1 and 1 that are wrong, and one that does not count.
  EXPECT_NEAR(losses(bits).at(0), std::log1p(std::exp(1)), 1e-6);
  EXPECT_NEAR(losses(bits + " --loss binary_focal --focal-gamma 0 --focal-alpha 0.5").at(0),
              std::log1p(std::exp(1)) / 2, 1e-6);
  run("train " + bits + " --lr 0.5 --lr-schedule one_cycle:total_steps=9,div_factor=5 --log log.jsonl");
  EXPECT_NEAR(read_log("log.jsonl").at(0)["lr"].get<double>(), 0.1, 1e-7);
  const struct {
    std::string flags;
    const char* says;
  } wrong[] = {
      {far + " --huber-delta 0", "above 0"},
      {far + " --focal-gamma 1", "focal, binary_focal, got huber"},
      {"column.onnx --data far.csv --steps 1 --huber-delta 1", "got mean_squared_error"},
      {far + " --lr-schedule one_cycle", "total_steps"},
  };
  for (const auto& c : wrong) {
    const Outcome outcome = run("train " + c.flags);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr(c.says));
  }
  EXPECT_THAT(run("train " + far + " --ignore-label 7").text, HasSubstr("--ignore-label has no effect"));
  const std::string help = run("train --help").output;
  for (const LossDef& loss : halfstep::losses()) EXPECT_THAT(help, HasSubstr(std::string(loss.name) + ": "));
}

TEST_F(Labels, ALabelColumnThatComesFirstIsAdvisedOf) {
  save("flowers.onnx", kFlowers);
  write("first.csv", "kind,a,b\n0,1,2.5\n2,3,1.5\n");
  const Outcome last = run("train flowers.onnx --data first.csv --epochs 1");
  EXPECT_EQ(last.exit_code, 2) << last.text;
  EXPECT_THAT(last.text, HasSubstr("--label-column"));
  for (const char* column : {"kind", "1"}) {
    const Outcome named = run(std::string("train flowers.onnx --data first.csv --epochs 1 --label-column ") + column);
    EXPECT_EQ(named.exit_code, 0) << named.text;
  }
}

TEST_F(Labels, ChoicesAreSaidByTrainAndEvaluate) {
  save("grid.onnx",
       "(float[N, 2] x) => (float[N, 2, 2] y) <float[2, 4] w = {1, -1, 0.5, 0.25, 1, -0.5, 2, 3}, "
       "int64[3] s = {0, 2, 2}> { h = MatMul(x, w) y = Reshape(h, s) }");
  save("plain.onnx", "(float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, -1, 0.5, 0.25}> { y = MatMul(x, w) }");
  write_npy(folder_ / "a.npy", Tensor::of<float>({1, 2, 3, 4, 5, 6}, {3, 2}));
  write_npy(folder_ / "pairs.npy", Tensor::of<std::int64_t>({0, 1, -100, 1, 255, 0}, {3, 2}));
  write_npy(folder_ / "hot.npy", Tensor::of<float>({0, 1, 1, 0, 0, 1}, {3, 2}));
  struct Case {
    const char* arguments;
    std::vector<const char*> says;
  };
  const Case cases[] = {
      {"grid.onnx --data a.npy,pairs.npy", {"--ignore-label 255"}},
      {"plain.onnx --data a.npy,hot.npy", {"softmax_cross_entropy, because the labels are one-hot: --loss"}},
      {"plain.onnx --data a.npy,hot.npy --loss mean_squared_error --metrics mean_iou,mae", {"mean_iou", "mae"}},
  };
  for (const std::string command : {"train --epochs 1 ", "evaluate "}) {
    for (const Case& c : cases) {
      const Outcome outcome = run(command + c.arguments);
      for (const char* says : c.says) EXPECT_THAT(outcome.text, HasSubstr(says)) << command << c.arguments;
    }
    write_npy(folder_ / "pairs.npy", Tensor::of<std::int64_t>({0, 1, -100, 1, 1, 0}, {3, 2}));
    const Outcome axis = run(command + "grid.onnx --data a.npy,pairs.npy --metrics accuracy,mean_iou,top_k:1");
    EXPECT_EQ(axis.exit_code, 0) << axis.text;
    EXPECT_THAT(axis.text, HasSubstr("--class-axis 2"));
    EXPECT_THAT(axis.text, HasSubstr("labels of -100 are ignored (1 of 6): --ignore-label"));
    EXPECT_THAT(axis.text, HasSubstr("mean_iou"));
    write_npy(folder_ / "pairs.npy", Tensor::of<std::int64_t>({0, 1, -100, 1, 255, 0}, {3, 2}));
  }
}

TEST_F(Labels, ALossOfTheModelNeedsNoTargets) {
  save("own.onnx",
       "(float[N, 2] a, float[N, 1] b) => (float l) <float[2, 1] w = {1, -1}> "
       "{ y = MatMul(a, w) d = Sub(y, b) s = Mul(d, d) l = ReduceMean<keepdims = 0>(s) }");
  const Tensor a = Tensor::of<float>({1, 2, 3, 4, 5, 6}, {3, 2}), b = Tensor::of<float>({1, 0, 1}, {3, 1});
  write_npy(folder_ / "a.npy", a);
  write_npy(folder_ / "b.npy", b);
  write_npz(folder_ / "ab.npz", {{"b", b}, {"a", a}});
  // Squares of (-1 - 1), (-1 - 0), (-1 - 1).
  for (const char* data : {"a.npy,b.npy", "a=a.npy,b=b.npy", "b=b.npy,a=a.npy", "b=b.npy,a=a.npy,a.npy", "ab.npz"}) {
    const std::vector<double> first =
        losses("own.onnx --loss output --steps 1 --val-data " + std::string(data) + " --data " + data);
    ASSERT_EQ(first.size(), 1u) << data;
    EXPECT_NEAR(first[0], 3, 1e-6) << data;
    const Outcome evaluation = run("evaluate own.onnx --loss output --json --data " + std::string(data));
    ASSERT_EQ(evaluation.exit_code, 0) << evaluation.text;
    EXPECT_NEAR(nlohmann::json::parse(evaluation.output)["loss"].get<double>(), 3, 1e-6) << data;
  }
}

TEST_F(Labels, ABatchBehindTheTime) {
  save("time.onnx",
       "(float[T, N, 1] x) => (float[N, 1] y, float[T, N, 1] each) <float[1, 1] w = {2}, int64[1] t = {0}> "
       "{ each = MatMul(x, w) y = ReduceSum<keepdims = 0>(each, t) }");
  write_npy(folder_ / "a.npy", Tensor::of<float>({1, 2, 3, 4, 5, 6}, {2, 3, 1}));
  write_npy(folder_ / "b.npy", Tensor::of<float>({12, 31}, {2, 1}));
  const std::vector<double> first = losses("time.onnx --data a.npy,b.npy --batch-axis x=1 --steps 1");
  ASSERT_EQ(first.size(), 1u);
  EXPECT_NEAR(first[0], 0.5, 1e-6);  // sums 6 and 15, doubled
  const Outcome outcome = run("run time.onnx --input a.npy --batch-axis x=1,each=1 -o out.npz");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.text;
  const NpzFile file(folder_ / "out.npz");
  EXPECT_EQ(to_doubles(file.open("y").load()), (std::vector<double>{12, 30}));
  EXPECT_EQ(to_doubles(file.open("each").load()), (std::vector<double>{2, 4, 6, 8, 10, 12}));
  for (const char* bad : {"x", "x=", "=1", "x=one", "x=1,x=1", "z=1", "x=7"})
    EXPECT_EQ(run(std::string("train time.onnx --data a.npy,b.npy --batch-axis ") + bad).exit_code, 2) << bad;
}

TEST_F(Labels, SampleWeightsAreAFileOrAnArrayOfTheData) {
  Tensor weights(DType::f32, {40});
  for (std::int64_t i = 0; i < 40; ++i) weights.data<float>()[i] = static_cast<float>(i % 10 < 5);
  write_npy(folder_ / "w.npy", weights);
  const auto loss = [&](const std::string& arguments) {
    const Outcome outcome = run("evaluate mlp.onnx --json " + arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
    return nlohmann::json::parse(outcome.output)["loss"].get<double>();
  };
  const double weighted = loss("--data x.npy,y.npy --sample-weights w.npy");
  EXPECT_EQ(loss("--data x.npy,w=w.npy,y.npy --sample-weights w"), weighted);
  EXPECT_NE(loss("--data x.npy,y.npy"), weighted);
  const Outcome train =
      run("train mlp.onnx --data x.npy,y.npy --val-data x.npy,y.npy --sample-weights w.npy --epochs 1");
  EXPECT_EQ(train.exit_code, 0) << train.text;
  EXPECT_THAT(train.text, HasSubstr("the validation data has no 'w.npy': its rows are unweighted"));
  const Outcome missing = run("train mlp.onnx --data x.npy,y.npy --sample-weights v.npy --epochs 1");
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_THAT(missing.text, HasSubstr("neither an array of the data nor a file named 'v.npy'"));
  write_npy(folder_ / "few.npy", weights.rows(0, 39).clone());
  EXPECT_THAT(run("train mlp.onnx --data x.npy,y.npy --sample-weights few.npy --epochs 1").text,
              HasSubstr("40 sample weights, one for each row of the data"));
}

TEST_F(Labels, AnotherLossModelIsToldOnResume) {
  save("m.onnx", "(float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 1}> { y = MatMul(x, w) }");
  const auto save_loss = [&](const char* factor) {
    save("loss.onnx",
         fmt::format("(float[N, 1] y, float[N, 1] labels) => (float l) <float f = {{{}}}> "
                     "{{ d = Sub(y, labels) s = Mul(d, d) m = ReduceMean<keepdims = 0>(s) l = Mul(m, f) }}",
                     factor));
  };
  write_npy(folder_ / "a.npy", Tensor::of<float>({1, 2, 3, 4, 0, 1, 2, 2}, {4, 2}));
  write_npy(folder_ / "b.npy", Tensor::of<float>({1, 0, 1, 2}, {4, 1}));
  const std::string command = "train m.onnx --data a.npy,b.npy --loss-model loss.onnx ";
  save_loss("1");
  EXPECT_EQ(run(command + "--epochs 1 --checkpoint kept").exit_code, 0);
  const Outcome same = run(command + "--epochs 2 --resume kept");
  EXPECT_EQ(same.exit_code, 0) << same.text;
  EXPECT_THAT(same.text, Not(HasSubstr("--loss-model")));
  save_loss("2");
  EXPECT_THAT(run(command + "--epochs 3 --resume kept").text, HasSubstr("resuming with --loss-model loss.onnx ("));
}

TEST_F(Labels, EarlyStoppingAndAveragesGoOnWithAResumedRun) {
  for (const std::string flags : {"--early-stopping 2 --watch accuracy", "--average 0.75"}) {
    const std::string command =
        "train mlp.onnx --data x.npy,y.npy --batch 10 --lr 0.05 --optimizer sgd --precision fp32 " + flags;
    const auto parameters = [&](const std::string& more) {
      const Outcome outcome = run(command + " -o trained.onnx " + more);
      EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
      EXPECT_THAT(outcome.text, Not(HasSubstr("starts from scratch")));
      std::ifstream file(folder_ / "trained.onnx", std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(file), {});
    };
    const std::string whole = parameters("--epochs 4");
    EXPECT_EQ(run(command + " --steps 6 --checkpoint kept").exit_code, 0);
    EXPECT_EQ(parameters("--epochs 4 --resume kept"), whole) << flags;
    const Outcome dropped =
        run("train mlp.onnx --data x.npy,y.npy --batch 10 --lr 0.05 --optimizer sgd "
            "--precision fp32 --epochs 5 --resume kept");
    EXPECT_THAT(dropped.text, HasSubstr("that the checkpoint has")) << flags;
    const bool averages = flags.starts_with("--average");
    EXPECT_THAT(run(command + " --epochs 4 --val-data x.npy,y.npy").output,
                HasSubstr(averages ? " (of the average)\n" : " (of the best epoch)\n"));
    std::filesystem::remove_all(folder_ / "kept");
  }
}

}  // namespace
}  // namespace halfstep
