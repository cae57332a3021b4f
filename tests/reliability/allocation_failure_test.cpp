// Every allocation of a small piece of work fails once: it ends in std::bad_alloc or an Error, leaves what was there,
// and can be done again.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>

#include <gmock/gmock.h>

#include "data/batch_loader.h"
#include "formats/npz.h"
#include "tests/reliability/failing_allocation.h"
#include "tests/temporary_directory.h"
#include "training/step_log.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/csv.h>
#include <halfstep/formats/npy.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using testing::FailingAllocation;

/// Runs `work` with the n-th allocation failing, for every n up to `all`, and beyond it for fewer and fewer, until it
/// has no n-th. Returns how often it failed.
int fail_each(const std::function<void()>& work, long all) {
  work();  // what is made once, such as tables of schemas, is there from here on
  int failures = 0;
  for (const bool for_good : {false, true}) {
    for (long n = 1;; n += std::max(1L, (n - all) / 16)) {
      const FailingAllocation failing(n, for_good);
      try {
        work();
      } catch (const std::bad_alloc&) {
        ++failures;
      } catch (const Error&) {
        ++failures;
      }
      if (!failing.has_failed()) break;
    }
  }
  work();
  return failures;
}

Tensor filled(Shape shape) {
  Tensor tensor(DType::f32, std::move(shape));
  for (std::int64_t i = 0; i < tensor.count(); ++i) tensor.data<float>()[i] = static_cast<float>(i % 7);
  return tensor;
}

class AllocationFailure : public ::testing::Test {
 protected:
  AllocationFailure() {
    write_npy(dir_ / "x.npy", x_);
    write_npy(dir_ / "y.npy", y_);
    write_npz(dir_ / "xy.npz", {{"x", x_}, {"y", y_}});
    write_text(dir_ / "xy.csv", "a,b,c\n1,2,3\n4,5,6\n7,8,9\n");
    save_model(parse_model(R"(<ir_version: 10, opset_import: ["": 20]> m (float[N, 4] x) => (float[N, 2] y)
      <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { h = MatMul(x, w) y = Relu(h) })")
                   .graph,
               dir_ / "m.onnx");
  }

  TemporaryDirectory dir_;
  Tensor x_ = filled({6, 4}), y_ = filled({6, 2});
};

TEST_F(AllocationFailure, ReadingDataEndsInAnError) {
  EXPECT_GT(fail_each([&] { open_npy(dir_ / "x.npy").load(); }, 200), 10);
  EXPECT_GT(fail_each([&] { NpzFile(dir_ / "xy.npz").open("x").load(); }, 200), 10);
  EXPECT_GT(fail_each([&] { open_csv(dir_ / "xy.csv"); }, 200), 10);
}

TEST_F(AllocationFailure, WritingLeavesTheOldFileAndNoOther) {
  const auto files = dir_.names().size();
  EXPECT_GT(fail_each([&] { write_npy(dir_ / "x.npy", x_); }, 100), 5);
  EXPECT_TRUE(identical(open_npy(dir_ / "x.npy").load(), x_));
  EXPECT_GT(fail_each([&] { write_npz(dir_ / "xy.npz", {{"x", x_}, {"y", y_}}); }, 100), 5);
  EXPECT_TRUE(identical(NpzFile(dir_ / "xy.npz").open("y").load(), y_));
  EXPECT_EQ(dir_.names().size(), files);
  EXPECT_GT(fail_each(
                [&] {
                  StepLog log(dir_ / "log");
                  log.write({.step = 1});
                  log.close();
                },
                200),
            3);
}

TEST_F(AllocationFailure, ATrainingRunEndsInAnError) {
  // Loaded beforehand: protobuf's messages do not survive an allocation that throws.
  const LoadedModel model = load_model(dir_ / "m.onnx");
  for (const bool reference : {true, false}) {
    const std::unique_ptr<Executor> executor =
        reference ? make_reference_executor() : make_onednn_executor({.threads = 1});
    const auto train = [&] {
      Trainer trainer(load_model(dir_ / "m.onnx"), *executor,
                      Dataset(open_npy(dir_ / "x.npy"), open_npy(dir_ / "y.npy")),
                      {.losses = {{"mean_squared_error"}}, .precision = Precision::fp32, .epochs = 1, .batch_size = 4});
      trainer.fit({});
    };
    EXPECT_GT(fail_each(train, 50), 50) << executor->name();
  }
}

}  // namespace
}  // namespace halfstep
