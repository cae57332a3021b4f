// The checks as GoogleTest tests, for testing a custom executor:
//
//   #include <halfstep/conformance/gtest.h>
//   HALFSTEP_INSTANTIATE_CONFORMANCE(make_my_executor)
//
// in a program that links halfstep::conformance. make_my_executor() returns a std::unique_ptr<halfstep::Executor>.
// There is one test for each operator, and one each for programs and training.
#pragma once

#include <cctype>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include <halfstep/base/api.h>
#include <halfstep/conformance/checks.h>
#include <halfstep/conformance/crash_note.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// Runs the checks of a group, and fails the test with their messages. A check that crashes is named.
inline void expect_conformance(Executor& executor, const std::string& group) {
  CrashNote note;
  for (const Check& check : checks_of(group)) {
    const std::string name = describe(check.about);
    note.begin(name, kLongestCheckSeconds);
    const CheckReport report = check.run(executor);
    note.end();
    EXPECT_TRUE(report.ok()) << name << ": " << report.message;
  }
}

/// A valid GoogleTest name.
inline std::string conformance_test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

}  // namespace halfstep

/// Use it once in a program, outside of any namespace.
#define HALFSTEP_INSTANTIATE_CONFORMANCE(make_executor)                                                    \
  class HalfstepConformance : public ::testing::TestWithParam<std::string> {};                             \
  TEST_P(HalfstepConformance, Holds) {                                                                     \
    const std::unique_ptr<::halfstep::Executor> executor = make_executor();                                \
    ASSERT_TRUE(executor);                                                                                 \
    ::halfstep::expect_conformance(*executor, GetParam());                                                 \
  }                                                                                                        \
  INSTANTIATE_TEST_SUITE_P(Executor, HalfstepConformance, ::testing::ValuesIn(::halfstep::check_groups()), \
                           ::halfstep::conformance_test_name)
