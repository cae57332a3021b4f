#include "training/step_log.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/temporary_directory.h"

namespace halfstep {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();

std::string text_of(const StepRecord& record) {
  std::string text;
  append_json(text, record);
  return text;
}

TEST(StepLog, RecordIsExactJson) {
  const GradNorm norms[] = {{"dense.weight", 0.25f}, {"odd \"name\"\n", kInf}};
  const StepRecord record{.step = 7,
                          .epoch = 1,
                          .update = 5,
                          .loss = 0.1f,
                          .lr = 1e-3f,
                          .loss_scale = 65536,
                          .grads_finite = true,
                          .grad_norm = 1.5f,
                          .grad_norms = norms,
                          .ms = 0.123456};
  EXPECT_EQ(text_of(record),
            R"({"step":7,"epoch":1,"update":5,"loss":0.1,"lr":0.001,"loss_scale":65536,"grads_finite":true,)"
            R"("grad_norm":1.5,"grad_norms":{"dense.weight":0.25,"odd \"name\"\n":"Infinity"},"ms":0.1235})");
}

TEST(StepLog, EpochRecordIsExactJson) {
  const NamedValue train[] = {{"loss", 0.25}, {"accuracy", 0.5}}, validation[] = {{"loss", NAN}, {"accuracy", 1}};
  std::string text;
  append_json(text, EpochRecord{.step = 9, .epoch = 3, .train = train});
  EXPECT_EQ(text, R"({"step":9,"epoch":3,"train":{"loss":0.25,"accuracy":0.5}})");
  text.clear();
  append_json(text, EpochRecord{.step = 9, .epoch = 3, .train = train, .validation = validation});
  EXPECT_EQ(text, R"({"step":9,"epoch":3,"train":{"loss":0.25,"accuracy":0.5},)"
                  R"("validation":{"loss":"NaN","accuracy":1}})");
  text.clear();
  const RankTimes ranks[] = {{.step = 1.25, .waited = 0.00004}, {.step = 1.5, .waited = 0.5}};
  append_json(text, EpochRecord{.step = 9, .epoch = 3, .train = train, .ranks = ranks});
  EXPECT_EQ(text, R"({"step":9,"epoch":3,"train":{"loss":0.25,"accuracy":0.5},)"
                  R"("ranks":{"ms":[1.25,1.5],"waited_ms":[0,0.5]}})");
}

TEST(StepLog, GoingOnKeepsTheEpochsThatAreNotRepeated) {
  TemporaryDirectory dir;
  const NamedValue loss[] = {{"loss", 1}};
  const auto epoch = [&](std::int64_t step) {
    std::string text;
    append_json(text, EpochRecord{.step = step, .train = loss});
    return text + "\n";
  };
  const std::string first = text_of({.step = 1}) + "\n" + text_of({.step = 2}) + "\n" + epoch(2);
  write_text(dir / "log", first + text_of({.step = 3}) + "\n" + epoch(3));
  StepLog(dir / "log", 2).close();
  EXPECT_EQ(read_text(dir / "log"), first);
}

TEST(StepLog, NonFiniteNumbersAreStrings) {
  const StepRecord record{.step = 1,
                          .loss = std::numeric_limits<float>::quiet_NaN(),
                          .loss_scale = kInf,
                          .grads_finite = false,
                          .grad_norm = -kInf};
  const json parsed = json::parse(text_of(record));
  EXPECT_EQ(parsed["loss"], "NaN");
  EXPECT_EQ(parsed["loss_scale"], "Infinity");
  EXPECT_EQ(parsed["grad_norm"], "-Infinity");
  EXPECT_EQ(parsed["grads_finite"], false);
  EXPECT_FALSE(parsed.contains("grad_norms"));
}

TEST(StepLog, FloatsReadBackExactly) {
  for (const float value : {0.0f, 1e-45f, 3.4028235e38f, 0.1f, 1.0f / 3, 16777216.0f, -2.5e-7f}) {
    const json parsed = json::parse(text_of({.loss = value}));
    EXPECT_EQ(parsed["loss"].get<float>(), value);
  }
}

TEST(StepLog, NamesThatAreNotUtf8StayJson) {
  const GradNorm norms[] = {{"\xff\xfe", 1}};
  EXPECT_TRUE(json::accept(text_of({.grad_norms = norms})));
}

TEST(StepLog, WritesALineAStep) {
  TemporaryDirectory dir;
  StepLog log(dir / "log.jsonl");
  for (int step = 1; step <= 5000; ++step) log.write({.step = step});
  log.close();
  std::ifstream file(dir / "log.jsonl");
  std::int64_t step = 0;
  for (std::string line; std::getline(file, line);) EXPECT_EQ(json::parse(line)["step"], ++step);
  EXPECT_EQ(step, 5000);
}

TEST(StepLog, TheDestructorFlushes) {
  TemporaryDirectory dir;
  StepLog(dir / "log").write({.step = 3});
  EXPECT_EQ(json::parse(read_text(dir / "log"))["step"], 3);
}

TEST(StepLog, AppendingDropsATornLine) {
  TemporaryDirectory dir;
  const std::string whole = text_of({.step = 1}) + "\n";
  const std::string torn = R"({"step":2,"epo)", long_torn(10000, 'x');
  for (const std::string& left : {std::string(), whole, whole + torn, torn, whole + long_torn}) {
    write_text(dir / "log", left);
    StepLog log(dir / "log", 2);
    log.write({.step = 3});
    log.close();
    const std::string kept = left.starts_with(whole) ? whole : "";
    EXPECT_EQ(read_text(dir / "log"), kept + text_of({.step = 3}) + "\n");
  }
}

TEST(StepLog, GoingOnDropsTheStepsThatAreRepeated) {
  TemporaryDirectory dir;
  const auto lines = [](std::initializer_list<std::int64_t> steps) {
    std::string text;
    for (const std::int64_t step : steps) text += text_of({.step = step}) + "\n";
    return text;
  };
  struct Case {
    std::string before;
    std::int64_t steps;
    std::string after;
  };
  const Case cases[] = {
      {lines({1, 2, 3, 4, 5}), 3, lines({1, 2, 3})},
      {lines({1, 2, 3, 4, 5}), 5, lines({1, 2, 3, 4, 5})},
      {lines({1, 2, 3}), 7, lines({1, 2, 3})},
      {lines({8, 9, 10, 11, 100}), 9, lines({8, 9})},
      {lines({1, 2, 3, 2, 3, 4}), 2, lines({1, 2, 2})},  // of runs that were resumed without dropping
      {"a remark\n" + lines({1, 2}) + "{}\n", 1, "a remark\n" + lines({1}) + "{}\n"},
      {lines({1, 2}) + R"({"step":3,"ep)", 2, lines({1, 2})},
  };
  for (const Case& c : cases) {
    write_text(dir / "log", c.before);
    StepLog(dir / "log", c.steps).close();
    EXPECT_EQ(read_text(dir / "log"), c.after) << c.before << "after " << c.steps;
  }
  EXPECT_THAT(dir.names(), testing::ElementsAre("log"));
}

TEST(StepLog, GoingOnDropsThePartOfAnEpochThatItCompletes) {
  TemporaryDirectory dir;
  const NamedValue train[] = {{"loss", 0.25}};
  std::string whole, part;
  append_json(whole, EpochRecord{.step = 2, .epoch = 1, .train = train});
  append_json(part, EpochRecord{.step = 3, .epoch = 2, .partial = true, .train = train});
  EXPECT_EQ(part, R"({"step":3,"epoch":2,"partial":true,"train":{"loss":0.25}})");
  const std::string before = text_of({.step = 2}) + "\n" + whole + "\n" + text_of({.step = 3}) + "\n";
  write_text(dir / "log", before + part + "\n");
  StepLog(dir / "log", 3).close();
  EXPECT_EQ(read_text(dir / "log"), before);
}

TEST(StepLog, GoingOnFollowsALink) {
  TemporaryDirectory dir;
  write_text(dir / "file", text_of({.step = 1}) + "\n" + text_of({.step = 2}) + "\n");
  std::filesystem::create_symlink("file", dir / "link");
  StepLog(dir / "link", 1).close();
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
  EXPECT_EQ(read_text(dir / "file"), text_of({.step = 1}) + "\n");
}

TEST(StepLog, StartsAnewWithoutSteps) {
  TemporaryDirectory dir;
  write_text(dir / "log", "old\n");
  StepLog(dir / "log").close();
  EXPECT_EQ(read_text(dir / "log"), "");
}

TEST(StepLog, OneRunAtATimeWritesIt) {
  TemporaryDirectory dir;
  StepLog log(dir / "log");
  log.write({.step = 1});
  log.flush();
  const std::string before = read_text(dir / "log");
  for (const std::int64_t steps : {0, 1})
    EXPECT_THAT(error_of(Error::Kind::failure, [&] { StepLog other(dir / "log", steps); }), HasSubstr("one run"));
  EXPECT_EQ(read_text(dir / "log"), before);
  log.close();
  EXPECT_NO_THROW(StepLog(dir / "log", 1));
}

TEST(StepLog, WhatCouldNotBeWrittenIsWrittenLater) {
  TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    StepLog log(dir / "log");
    log.write({.step = 1});
    log.flush();
    const auto limit = [](rlim_t bytes) {
      const rlimit value{bytes, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &value);
    };
    limit(150);  // in the middle of the second line
    int failures = 0;
    for (std::int64_t step = 2; step <= 4; ++step) {
      log.write({.step = step});
      try {
        log.flush();
      } catch (const Error&) {
        ++failures;
      }
    }
    limit(RLIM_INFINITY);
    log.write({.step = 5});
    log.close();
    ::_exit(failures);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  std::string whole;
  for (std::int64_t step = 1; step <= 5; ++step) whole += text_of({.step = step}) + "\n";
  EXPECT_EQ(read_text(dir / "log"), whole);
}

TEST(StepLog, PipesAndDevicesAreTakenAndNeverWaitedFor) {
  TemporaryDirectory dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_NO_THROW(check_log_path(dir / "pipe"));
  error_of(Error::Kind::failure, [&] { StepLog log(dir / "pipe"); });  // nobody reads it
  EXPECT_NO_THROW(check_log_path("/dev/null"));
  EXPECT_NO_THROW(StepLog("/dev/null"));
  error_of(Error::Kind::input, [&] { check_log_path(dir.path()); });
}

TEST(StepLog, FailuresAreErrors) {
  TemporaryDirectory dir;
  for (const std::filesystem::path& path : {std::filesystem::path("/dev/null/x"), dir / "missing/x", dir.path()})
    error_of(Error::Kind::failure, [&] { StepLog log(path); });
  StepLog log("/dev/full");
  log.write({.step = 1});
  EXPECT_THAT(error_of(Error::Kind::failure, [&] { log.close(); }), HasSubstr("No space left"));
  EXPECT_NO_THROW(log.close());
}

}  // namespace
}  // namespace halfstep
