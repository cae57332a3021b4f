#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/temporary_directory.h"
#include <halfstep/training/schedule.h>

namespace halfstep {
namespace {

using testing::HasSubstr;

struct Rate {
  const char* text;
  double base;
  std::int64_t step;
  double expected;
};

// Worked out by hand from the formulas that Keras and PyTorch document.
constexpr Rate kRates[] = {
    {"constant", 0.1, 0, 0.1},
    {"constant", 0.1, 1000000, 0.1},
    {"constant:warmup_steps=4", 0.1, 0, 0},
    {"constant:warmup_steps=4", 0.1, 1, 0.025},
    {"constant:warmup_steps=4", 0.1, 4, 0.1},
    {"constant:warmup_steps=4,warmup_start=0.5", 0.1, 0, 0.05},
    {"constant:warmup_steps=4,warmup_start=0.5", 0.1, 2, 0.075},
    {"exponential:decay_steps=1000,decay_rate=0.9,staircase=true", 1e-3, 0, 1e-3},
    {"exponential:decay_steps=1000,decay_rate=0.9,staircase=true", 1e-3, 999, 1e-3},
    {"exponential:decay_steps=1000,decay_rate=0.9,staircase=true", 1e-3, 1000, 9e-4},
    {"exponential:decay_steps=1000,decay_rate=0.9,staircase=true", 1e-3, 18750, 1e-3 * 0.15009463529699918},
    {"exponential:decay_steps=1000,decay_rate=0.25", 1, 500, 0.5},
    {"exponential:decay_steps=10,decay_rate=0.25,warmup_steps=10", 1, 15, 0.5},
    {"step:step_size=30", 0.05, 29, 0.05},
    {"step:step_size=30", 0.05, 30, 0.005},
    {"step:step_size=30,gamma=0.5", 0.05, 90, 0.00625},
    {"step:milestones=30/80", 0.05, 29, 0.05},
    {"step:milestones=30/80", 0.05, 30, 0.005},
    {"step:milestones=30/80", 0.05, 79, 0.005},
    {"step:milestones=30/80,gamma=0.5", 0.05, 80, 0.0125},
    {"cosine:decay_steps=100", 2, 0, 2},
    {"cosine:decay_steps=100", 2, 50, 1},
    {"cosine:decay_steps=100", 2, 25, 1.7071067811865475},
    {"cosine:decay_steps=100", 2, 100, 0},
    {"cosine:decay_steps=100,alpha=0.1", 2, 50, 1.1},
    {"cosine:decay_steps=100,alpha=0.1", 2, 5000, 0.2},
    {"cosine:decay_steps=100,warmup_steps=10", 2, 60, 1},
    {"linear:decay_steps=100", 1, 25, 0.75},
    {"linear:decay_steps=100,end_lr=0.5", 1, 50, 0.75},
    {"linear:decay_steps=100,end_lr=0.5", 1, 200, 0.5},
    {"linear:decay_steps=100,end_lr=3", 1, 50, 2},
    // By PyTorch 2.15's PolynomialLR and OneCycleLR.
    {"polynomial:decay_steps=10,power=2", 0.1, 0, 0.1},
    {"polynomial:decay_steps=10,power=2", 0.1, 1, 0.081},
    {"polynomial:decay_steps=10,power=2", 0.1, 9, 0.001},
    {"polynomial:decay_steps=10,power=2", 0.1, 10, 0},
    {"polynomial:decay_steps=10,power=2", 0.1, 14, 0},
    {"polynomial:decay_steps=10,power=0.5", 0.1, 7, 0.0547722558},
    {"polynomial:decay_steps=10,power=2,end_lr=0.02", 0.1, 5, 0.04},  // Keras' formula, by hand
    {"polynomial:decay_steps=10", 0.1, 3, 0.07},
    {"polynomial:decay_steps=10,power=2,warmup_steps=4", 0.1, 5, 0.081},
    {"one_cycle:total_steps=100", 0.1, 0, 0.004},
    {"one_cycle:total_steps=100", 0.1, 1, 0.00428137806},
    {"one_cycle:total_steps=100", 0.1, 10, 0.0295163948},
    {"one_cycle:total_steps=100", 0.1, 29, 0.1},
    {"one_cycle:total_steps=100", 0.1, 30, 0.0999496535},
    {"one_cycle:total_steps=100", 0.1, 64, 0.0500002},
    {"one_cycle:total_steps=100", 0.1, 98, 5.07464715e-05},
    {"one_cycle:total_steps=100", 0.1, 99, 4e-07},
    {"one_cycle:total_steps=100", 0.1, 1000, 4e-07},
    {"one_cycle:total_steps=20,pct_start=0.5,div_factor=10,final_div_factor=100", 0.1, 5, 0.062814168},
    {"one_cycle:total_steps=20,pct_start=0.5,div_factor=10,final_div_factor=100", 0.1, 10, 0.097555273},
    {"one_cycle:total_steps=20,pct_start=0.5,div_factor=10,final_div_factor=100", 0.1, 19, 0.0001},
    {"one_cycle:total_steps=5,pct_start=0", 0.1, 0, 0.0904508879},
    {"one_cycle:total_steps=5,pct_start=1", 0.1, 2, 0.052},
    {"one_cycle:total_steps=5,pct_start=1", 0.1, 9, 0.1},
    {"one_cycle:total_steps=1,pct_start=1", 0.1, 0, 0.1},
    // By PyTorch 2.15's CosineAnnealingWarmRestarts(T_0=10, T_mult=2, eta_min=0.01).
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 0, 0.1},
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 5, 0.055},
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 9, 0.0122024568},
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 10, 0.1},
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 29, 0.0105540247},
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 30, 0.1},
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 69, 0.01013872},
    {"cosine_restarts:first_decay_steps=10,alpha=0.1", 0.1, 70, 0.1},
    // By Keras' formulas.
    {"cosine_restarts:first_decay_steps=10,t_mul=1.5,m_mul=0.5,alpha=0.1", 0.1, 24, 0.010491678983489376},
    {"cosine_restarts:first_decay_steps=10,t_mul=1.5,m_mul=0.5,alpha=0.1", 0.1, 25, 0.0325},
    {"cosine_restarts:first_decay_steps=10,t_mul=1.5,m_mul=0.5,alpha=0.1", 0.1, 48, 0.0212439087512792},
    {"cosine_restarts:first_decay_steps=10,t_mul=1,m_mul=0.5", 0.1, 15, 0.025},
    {"cosine_restarts:first_decay_steps=10,t_mul=1,m_mul=0.5", 0.1, 20, 0.025},
    {"cosine_restarts:first_decay_steps=10,t_mul=1,m_mul=0.5", 0.1, 47, 0.0012881710865860205},
    {"inverse_time:decay_steps=10,decay_rate=0.5", 0.1, 5, 0.08},
    {"inverse_time:decay_steps=10,decay_rate=0.5,staircase=true", 0.1, 9, 0.1},
    {"inverse_time:decay_steps=10,decay_rate=0.5,staircase=true", 0.1, 29, 0.05},
};

TEST(Schedule, FollowsItsFormula) {
  for (const Rate& r : kRates) {
    const Schedule schedule = parse_schedule(r.text, r.base);
    EXPECT_FLOAT_EQ(schedule.at(r.step), static_cast<float>(r.expected)) << r.text << " at step " << r.step;
  }
}

TEST(Schedule, EveryRestartIsAtItsStep) {
  for (const std::int64_t growth : {2, 3, 5}) {
    const Schedule schedule = parse_schedule(fmt::format("cosine_restarts:first_decay_steps=7,t_mul={}", growth), 1);
    for (std::int64_t start = 0, length = 7; start < 1'000'000'000; start += length, length *= growth) {
      EXPECT_EQ(schedule.at(start), 1) << growth << " at " << start;
      EXPECT_LT(schedule.at(start + length - 1), 0.06) << growth << " before " << start + length;
    }
  }
}

TEST(Schedule, TextRoundTrip) {
  for (const Rate& r : kRates) {
    const Schedule schedule = parse_schedule(r.text, r.base);
    EXPECT_EQ(parse_schedule(schedule.to_string(), r.base), schedule) << r.text << " became " << schedule.to_string();
  }
  EXPECT_EQ(parse_schedule("constant", 1).to_string(), "constant");
  EXPECT_EQ(parse_schedule("constant:warmup_steps=5", 1).to_string(), "constant:warmup_steps=5,warmup_start=0");
  EXPECT_EQ(parse_schedule("step:milestones=3/5", 1).to_string(), "step:milestones=3/5,gamma=0.1");
}

TEST(Schedule, RefusesWhatItDoesNotKnow) {
  struct Case {
    const char* text;
    const char* expected;
  };
  const Case cases[] = {
      {"expo", "constant, exponential, step, cosine, linear"},
      {"", "constant, exponential, step, cosine, linear"},
      {"cosine:decay_steps=5,gamma=2", "decay_steps, alpha, warmup_steps, warmup_start"},
      {"constant:x=1", "'x'"},
      {"exponential", "add decay_steps"},
      {"exponential:decay_steps=10", "add decay_rate"},
      {"exponential:decay_steps=0,decay_rate=0.9", "at least 1"},
      {"exponential:decay_steps=ten,decay_rate=0.9", "'ten'"},
      {"exponential:decay_steps=10.5,decay_rate=0.9", "'10.5'"},
      {"exponential:decay_steps=99999999999999999999,decay_rate=0.9", "integer"},
      {"exponential:decay_steps=10,decay_rate=-1", "'-1'"},
      {"exponential:decay_steps=10,decay_rate=inf", "'inf'"},
      {"exponential:decay_steps=10,decay_rate=nan", "'nan'"},
      {"exponential:decay_steps=10,decay_rate=0.9x", "'0.9x'"},
      {"exponential:decay_steps=10,decay_rate=", "''"},
      {"exponential:decay_steps=10,decay_rate=0.9,staircase=maybe", "true or false"},
      {"exponential:decay_steps=10,decay_steps=20,decay_rate=1", "twice"},
      {"exponential:decay_steps", "KEY=VALUE"},
      {"exponential:decay_steps=10,,decay_rate=1", "KEY=VALUE"},
      {"exponential:=3", "KEY=VALUE"},
      {"step:gamma=0.1", "neither"},
      {"step:step_size=3,milestones=4", "both"},
      {"step:milestones=5/3", "at least 6"},
      {"step:milestones=5/", "integer"},
      {"cosine:decay_steps=5,alpha=1.5", "from 0 to 1"},
      {"linear:decay_steps=5,end_lr=-1", "at least 0"},
      {"polynomial:decay_steps=5,power=-1", "at least 0"},
      {"cosine_restarts:first_decay_steps=5,t_mul=0.5", "at least 1"},
      {"inverse_time:decay_steps=5", "add decay_rate"},
      {"one_cycle", "add total_steps"},
      {"one_cycle:total_steps=9,pct_start=2", "from 0 to 1"},
      {"one_cycle:total_steps=9,div_factor=0", "div_factor"},
      {"one_cycle:total_steps=9,warmup_steps=3", "it has its own warm-up"},
      {"constant:warmup_steps=-1", "at least 0"},
      {"constant:warmup_steps=1,warmup_start=2", "from 0 to 1"},
  };
  for (const Case& c : cases)
    EXPECT_THAT(error_of(Error::Kind::input, [&] { parse_schedule(c.text, 0.1); }), HasSubstr(c.expected)) << c.text;
}

TEST(Schedule, RefusesABadRate) {
  for (const double base : {-1.0, std::nan(""), HUGE_VAL})
    EXPECT_THROW(parse_schedule("constant", base), Error) << base;
}

}  // namespace
}  // namespace halfstep
