// After which silence a rank is lost.
#include "distributed/signs_of_life.h"

#include <chrono>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace halfstep {
namespace {

using namespace std::chrono_literals;
using ::testing::Optional;

const SignsOfLife::Clock::time_point kStart{1000s};

TEST(SignsOfLife, ASilentRankIsLostAfterTheLimit) {
  SignsOfLife signs(20s, 2);
  signs.hear(0, kStart);
  signs.hear(1, kStart);
  for (auto now = 0ms; now <= 20s; now += signs.pause()) {
    signs.look(kStart + now);
    if (now < 5s) signs.hear(1, kStart + now);
    EXPECT_EQ(signs.silent(kStart + now), std::nullopt);
  }
  signs.look(kStart + 20001ms);
  EXPECT_THAT(signs.silent(kStart + 20001ms), Optional(0u));
  signs.forget(0);
  EXPECT_EQ(signs.silent(kStart + 20001ms), std::nullopt);
  EXPECT_EQ(signs.loss_of("rank 3").found(), "nothing from rank 3 for 20 s");
}

TEST(SignsOfLife, NobodyIsMissedBeforeTheFirstSign) {
  SignsOfLife signs(1s, 1);
  signs.look(kStart);
  EXPECT_EQ(signs.silent(kStart + 100s), std::nullopt);
}

TEST(SignsOfLife, WhatThisProcessHasNotHeardWhileItWasStoppedSaysNothing) {
  SignsOfLife signs(20s, 1);
  signs.hear(0, kStart);
  signs.look(kStart);
  signs.look(kStart + 100s);
  EXPECT_EQ(signs.silent(kStart + 100s), std::nullopt);
  for (auto now = 100s; now < 120s; now += 1s) signs.look(kStart + now);
  EXPECT_THAT(signs.silent(kStart + 121s), Optional(0u));
}

TEST(SignsOfLife, AreGivenManyTimesWithinTheLimit) {
  SignsOfLife signs(20s, 1);
  EXPECT_TRUE(signs.is_due(kStart));
  signs.give(kStart);
  EXPECT_FALSE(signs.is_due(kStart + 999ms));
  EXPECT_TRUE(signs.is_due(kStart + 1s));
  EXPECT_LE(signs.pause(), 500ms);
}

TEST(SignsOfLife, WithoutALimitNobodyIsLost) {
  SignsOfLife signs(0ms, 1);
  EXPECT_FALSE(signs.watches());
  EXPECT_TRUE(signs.is_due(kStart)) << "the first tells the name";
  signs.give(kStart);
  EXPECT_FALSE(signs.is_due(kStart + 1000s));
  signs.hear(0, kStart);
  EXPECT_EQ(signs.silent(kStart + 1000s), std::nullopt);
}

}  // namespace
}  // namespace halfstep
