#include "conformance/program_check.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "conformance/attempt.h"
#include "conformance/program_scene.h"

namespace halfstep {
namespace {

double ramp(std::size_t i) { return static_cast<double>(i % 7) - 3; }
double saw(std::size_t i) { return static_cast<double>(i % 5); }
/// a + b f(i)
Elements line(double a, double b, double (*f)(std::size_t) = ramp) {
  return [=](std::size_t i) { return a + b * f(i); };
}

/// y = s, s ← s + x
Graph counter() {
  return parse_program(
      "(float[67] x, float[67] s) => (float[67] y, float[67] s_next) { y = Neg(s) s_next = Add(s, x) }",
      {{"s", "s_next"}});
}

void run_again(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program =
      scene.compile(parse_program("(float[67] x) => (float[67] y) { a = Add(x, x) b = Relu(a) y = Neg(b) }"), *store);
  for (const double step : {1.0, -2.0, 3.0, 3.0}) {
    scene.run(*program, {line(step, step)});
    scene.expect(fmt::format("y of inputs {0} + {0} ramp", step), program->output(0),
                 [&](std::size_t i) { return -std::max(0.0, 2 * (step + step * ramp(i))); });
  }
}

void inputs_stay(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program = scene.compile(
      parse_program("(float[67] x, float[67] z) => (float[67] y) { a = Neg(x) b = Relu(a) y = Add(b, z) }"), *store);
  const Tensor x = program->input(0);
  Tensor z = program->input(1);
  scene.run(*program, {line(0, 1), all(10)});
  for (int i = 0; i < 2; ++i) {
    scene.expect("y", program->output(0), [](std::size_t k) { return std::max(0.0, -ramp(k)) + 10; });
    scene.expect("input x after a run", x, line(0, 1));
    scene.expect("input z after a run", z, all(10));
    program->run();
  }
  // One of them is filled again, through the tensor that was there from the first.
  std::fill_n(z.data<float>(), z.count(), 20.0F);
  program->run();
  scene.expect("y of another z", program->output(0), [](std::size_t k) { return std::max(0.0, -ramp(k)) + 20; });
  scene.expect("the same memory for an input as long as the program lives", program->input(0).raw() == x.raw());
}

void outputs_stay(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto first = scene.compile(counter(), *store), second = scene.compile(counter(), *store);
  scene.run(*first, {all(5)});
  const Tensor y = first->output(0);
  scene.run(*second, {all(7)});
  scene.expect("y after a run of another program", y, all(0));
  first->run();
  scene.expect("the same memory for an output as long as the program lives", first->output(0).raw() == y.raw());
  scene.expect("y", y, all(-12));
}

void states_move(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program = scene.compile(counter(), *store);
  scene.expect("s before the first run", store->read("s"), all(0));
  for (int k = 1; k <= 4; ++k) {
    scene.run(*program, {line(k, 1)});
    const double before = (k - 1) * k / 2.0, after = k * (k + 1) / 2.0;
    scene.expect(fmt::format("y of run {}", k), program->output(0), line(-before, 1.0 - k));
    scene.expect(fmt::format("s after run {}", k), store->read("s"), line(after, k));
  }
}

void state_as_output(ProgramScene& scene) {
  Graph graph = parse_program("(float[67] x, float[67] s) => (float[67] t) { t = Add(s, x) }", {{"s", "t"}});
  graph.outputs.push_back(graph.find("s"));
  const auto store = scene.make_store();
  const auto program = scene.compile(graph, *store);
  for (int k = 0; k < 3; ++k) {
    scene.run(*program, {line(1, 1)});
    scene.expect(fmt::format("the next state in run {}", k), program->output(0), line(k + 1, k + 1));
    scene.expect(fmt::format("the state before it moves in run {}", k), program->output(1), line(k, k));
  }
}

void states_change_places(ProgramScene& scene) {
  Graph graph = parse_program(
      "(float[3] x) => (float[3] y) <float[3] a = {1, 1, 1}, float[3] b = {2, 2, 2}, "
      "float[3] c = {3, 3, 3}> { t = Add(a, b) u = Add(t, c) y = Add(u, x) }",
      {{"a", "b"}, {"b", "c"}, {"c", "a"}});
  const auto store = scene.make_store();
  const auto program = scene.compile(graph, *store);
  for (int k = 1; k <= 4; ++k) {
    scene.run(*program, {all(k)});
    scene.expect("y", program->output(0), all(6 + k));
    scene.expect("a", store->read("a"), all(1 + k % 3));
    scene.expect("c", store->read("c"), all(1 + (k + 2) % 3));
  }
}

void shared_store(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto train = scene.compile(counter(), *store);
  const Graph reading =
      parse_program("(float[67] x, float[67] s) => (float[67] y) <float[2] other = {4, 4}> { y = Add(s, x) }",
                    {{"s", ""}, {"other", ""}});
  scene.run(*train, {line(1, 1)});
  const auto evaluate = scene.compile(reading, *store);
  for (int k = 1; k <= 3; ++k) {
    scene.run(*evaluate, {all(k)});
    scene.expect("what one program made of the state, read by another", evaluate->output(0), line(2 * k, k));
    scene.expect("a state that only one of them has", store->read("other"), all(4));
    scene.run(*train, {line(1, 1)});
  }
  scene.expect("s", store->read("s"), line(4, 4));
}

void updates_gated(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program =
      scene.compile(parse_program("(float[67] x, bool update, float[67] s) => (float[67] y, float[67] s_next) "
                                  "{ y = Add(s, x) s_next = Where(update, y, s) }",
                                  {{"s", "s_next"}}),
                    *store);
  double updates = 0;
  for (const double update : {1.0, 0.0, 0.0, 1.0, 0.0}) {
    scene.run(*program, {line(1, 1), all(update)});
    scene.expect("y", program->output(0), line(updates + 1, updates + 1));
    updates += update;
    scene.expect(update != 0 ? "s after an update" : "s after none", store->read("s"), line(updates, updates));
  }
}

void store_access(ProgramScene& scene) {
  const auto store = scene.make_store();
  scene.expect("an empty store", store->names().empty() && !store->has("s"));
  const auto program = scene.compile(counter(), *store);
  scene.expect("the names of the states of what was compiled", store->names() == std::vector<std::string>{"s"});
  scene.expect("has() to know them", store->has("s") && !store->has("x"));
  const Tensor before = store->read("s");
  Tensor given = tensor_of(before, line(2, 3));
  store->write("s", given);
  std::fill_n(given.data<float>(), given.count(), 99.0F);
  scene.expect("s as written", store->read("s"), line(2, 3));
  scene.expect("what was read before it was written", before, all(0));
  scene.run(*program, {all(1)});
  scene.expect("y of what was written", program->output(0), line(-2, -3));
  scene.expect("s", store->read("s"), line(3, 3));
  scene.expect_error("reading a state there is none of", [&] { store->read("x"); });
  scene.expect_error("writing a state there is none of", [&] { store->write("x", given); });
  scene.expect_error("writing another type", [&] { store->write("s", convert(given, DType::f64)); });
  scene.expect_error("writing another shape", [&] { store->write("s", Tensor(DType::f32, {66})); });
  scene.expect("s after what was refused", store->read("s"), line(3, 3));
}

void same_operand(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program = scene.compile(
      parse_program("(float[67] x, float[17,17] q, float[67] s) => (float[67] y, float[67] z, float[201] c, "
                    "float[17,17] m, float[67] s_next) "
                    "{ y = Add(x, x) z = Mul(y, y) c = Concat<axis = 0>(x, x, x) m = MatMul(q, q) "
                    "t = Add(s, s) s_next = Add(t, x) }",
                    {{"s", "s_next"}}),
      *store);
  for (int k = 1; k <= 3; ++k) {
    scene.run(*program, {line(k, 1), all(k)});
    scene.expect("x + x", program->output(0), line(2 * k, 2));
    scene.expect("(x + x) (x + x)", program->output(1),
                 [&](std::size_t i) { return 4 * (k + ramp(i)) * (k + ramp(i)); });
    scene.expect("x, x, x", program->output(2), [&](std::size_t i) { return k + ramp(i % 67); });
    scene.expect("q q", program->output(3), all(17.0 * k * k));
  }
  scene.expect("s + s, after 3 runs", store->read("s"), line(4 + 4 + 3, 4 + 2 + 1));
}

void values_read_late(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program =
      scene.compile(parse_program("(float[67] x, float[67] s) => (float[67] y, float[67] z, float[67] s_next) "
                                  "{ a = Neg(x) b = Relu(a) c = Abs(a) d = Add(b, c) e = Mul(d, a) y = Add(e, x) "
                                  "s_next = Add(s, x) f = Neg(s_next) z = Add(f, s) }",
                                  {{"s", "s_next"}}),
                    *store);
  for (int k = 1; k <= 3; ++k) {
    scene.run(*program, {line(0, k)});
    scene.expect("y, which reads values that others could be written over", program->output(0), [&](std::size_t i) {
      const double x = k * ramp(i);
      return (std::max(0.0, -x) + std::abs(x)) * -x + x;
    });
    scene.expect("z, which reads a state after its next value is known", program->output(1), line(0, -k));
  }
  scene.expect("s", store->read("s"), line(0, 6));
}

void outputs_of_no_node(ProgramScene& scene) {
  Graph graph = parse_program("(float[67] x) => (float[67] y) <float[3] c = {1, 2, 3}> { y = Neg(x) }");
  graph.outputs.push_back(graph.find("x"));
  graph.outputs.push_back(graph.find("c"));
  const auto store = scene.make_store();
  const auto program = scene.compile(graph, *store);
  for (int k = 1; k <= 2; ++k) {
    scene.run(*program, {line(k, 1)});
    scene.expect("y", program->output(0), line(-k, -1));
    scene.expect("an input as output", program->output(1), line(k, 1));
    scene.expect("a constant as output", program->output(2), [](std::size_t i) { return i + 1.0; });
  }
}

void other_types(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program = scene.compile(
      parse_program("(int64[3] x, int64 n, bool f, float16[67] h, double d) => "
                    "(int64[3] y, int64 n_next, bool f_next, float16[67] h_next, double d_next) "
                    "<int64 one = {1}, float16 two = {16384}, double half = {0.5}>"
                    "{ y = Add(x, n) n_next = Add(n, one) f_next = Not(f) h_next = Add(h, two) d_next = Add(d, half) }",
                    {{"n", "n_next"}, {"f", "f_next"}, {"h", "h_next"}, {"d", "d_next"}}),
      *store);
  for (int k = 1; k <= 3; ++k) {
    scene.run(*program, {line(100, 1)});
    scene.expect("y", program->output(0), line(99 + k, 1));
    scene.expect("an integer", store->read("n"), all(k));
    scene.expect("a bool", store->read("f"), all(k % 2));
    scene.expect("numbers of f16", store->read("h"), all(2 * k));
    scene.expect("a number of f64", store->read("d"), all(0.5 * k));
  }
}

void weight_in_two_places(ProgramScene& scene) {
  const Graph training = parse_program(
      "(float[2,16,9,9] x, float step, float[16,16,3,3] w) => (float[2,16,7,7] y, float[16,16,3,3] w_next) "
      "{ y = Conv(x, w) w_next = Add(w, step) }",
      {{"w", "w_next"}});
  const Graph reading =
      parse_program("(float[16,16,3,3] x, float[16,16,3,3] w) => (float[16,16,3,3] y) { y = Add(w, x) }", {{"w", ""}});
  const auto store = scene.make_store();
  const auto first = scene.compile(training, *store), second = scene.compile(reading, *store);
  store->write("w", tensor_of(store->read("w"), line(0, 1)));
  for (int k = 0; k < 3; ++k) {
    scene.run(*second, {all(1)});
    scene.expect("a convolution's weight, read by a sum", second->output(0), line(k + 1, 1));
    scene.run(*first, {all(1), all(1)});
    const Tensor y = first->output(0);
    scene.expect("a convolution of ones", y, [&](std::size_t i) {
      const std::size_t filter = i / 49 % 16;
      double sum = 0;
      for (std::size_t j = 144 * filter; j < 144 * (filter + 1); ++j) sum += k + ramp(j);
      return sum;
    });
    scene.expect("the weight in a row-major copy", store->read("w"), line(k + 1, 1));
  }
}

void half_copy_of_weight(ProgramScene& scene) {
  if (!scene.capabilities().half_copies) return;
  const std::vector<StateNames> states = {{"w", "w_next"}, {"h", "h_next", "w"}};
  const Graph training = parse_program(
      "(float16[2,16,9,9] x, float step, float[16,16,3,3] w, float16[16,16,3,3] h) => "
      "(float16[2,16,7,7] y, float[16,16,3,3] w_next, float16[16,16,3,3] h_next) "
      "{ y = Conv(x, h) w_next = Add(w, step) h_next = Cast<to = 10>(w_next) }",
      states);
  const Graph update = parse_program(
      "(float step, float[16,16,3,3] w) => (float[16,16,3,3] w_next) { w_next = Add(w, step) }", {{"w", "w_next"}});
  const auto store = scene.make_store();
  const auto program = scene.compile(training, *store), other = scene.compile(update, *store);
  double added = 0;
  const auto expect_sums = [&](const std::string& when) {
    scene.run(*program, {all(1), all(1)});
    scene.expect("a convolution of ones " + when, program->output(0), [&](std::size_t i) {
      const std::size_t filter = i / 49 % 16;
      double sum = 0;
      for (std::size_t j = 144 * filter; j < 144 * (filter + 1); ++j) sum += added + ramp(j);
      return sum;
    });
    scene.expect("the weight", store->read("w"), line(++added, 1));
  };
  store->write("w", tensor_of(store->read("w"), line(0, 1)));
  for (int k = 0; k < 2; ++k) {
    expect_sums("by what was written");
    expect_sums("by the copy of the run before");
    scene.run(*other, {all(1)});
    ++added;
    expect_sums("by the copy of a weight that another program has changed");
    added = 2;
    store->write("w", tensor_of(store->read("w"), line(added, 1)));
  }
}

void recompiled(ProgramScene& scene) {
  const auto store = scene.make_store();
  auto first = scene.compile(counter(), *store);
  scene.run(*first, {all(1)});
  const auto second = scene.compile(counter(), *store);
  scene.expect("s after a second compile", store->read("s"), all(1));
  scene.run(*second, {all(2)});
  scene.expect("y of the second program", second->output(0), all(-1));
  scene.run(*first, {all(3)});
  scene.expect("y of the first", first->output(0), all(-3));
  first.reset();
  scene.run(*second, {all(4)});
  scene.expect("s", store->read("s"), all(10));
}

void destroyed_in_any_order(ProgramScene& scene) {
  for (const bool first_goes : {true, false}) {
    auto store = scene.make_store(), other_store = scene.make_store();
    std::optional<Graph> graph = counter();
    auto first = scene.compile(*graph, *store), second = scene.compile(*graph, *store),
         other = scene.compile(*graph, *other_store);
    graph.reset();
    scene.run(*first, {all(1)});
    (first_goes ? first : second).reset();
    other.reset();
    other_store.reset();
    Program& left = first_goes ? *second : *first;
    scene.run(left, {all(2)});
    scene.expect("y of the program that is left", left.output(0), all(-1));
    (first_goes ? second : first).reset();
    scene.expect("s after its last program", store->read("s"), all(3));
    const auto anew = scene.compile(counter(), *store);
    scene.run(*anew, {all(4)});
    scene.expect("s of a program made afterwards", store->read("s"), all(7));
  }
}

void two_stores(ProgramScene& scene) {
  const auto store = scene.make_store(), other_store = scene.make_store();
  const auto program = scene.compile(counter(), *store), other = scene.compile(counter(), *other_store);
  for (int k = 1; k <= 2; ++k) {
    scene.run(*program, {all(1)});
    scene.run(*other, {all(10)});
    scene.expect("s", store->read("s"), all(k));
    scene.expect("s of another store", other_store->read("s"), all(10 * k));
  }
}

void nothing_and_scalars(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program = scene.compile(
      parse_program(
          "(float[0,3] x, float v, float[0] s, float t) => "
          "(float[0,3] y, float[3] z, float w, float[0] s_next, float t_next) <int64[1] axes = {0}> "
          "{ y = Relu(x) z = ReduceSum<keepdims = 0>(x, axes) w = Neg(v) s_next = Neg(s) t_next = Add(t, v) }",
          {{"s", "s_next"}, {"t", "t_next"}}),
      *store);
  for (int k = 1; k <= 2; ++k) {
    scene.run(*program, {all(0), all(k)});
    scene.expect("the sum over nothing", program->output(1), all(0));
    scene.expect("a scalar", program->output(2), all(-k));
    scene.expect("a state without elements", store->read("s").count() == 0);
  }
  scene.expect("a state of one number", store->read("t"), all(3));
}

void refused_run(ProgramScene& scene) {
  const auto store = scene.make_store();
  const auto program =
      scene.compile(parse_program("(float[67] x, int64[3] i) => (float[3] y) { a = Neg(x) y = Gather(a, i) }"), *store);
  scene.run(*program, {line(0, 1, saw), all(2)});
  scene.expect("y", program->output(0), all(-2));
  // Kernels that cannot raise an error, as those of a GPU, give NaN.
  if (!scene.is_refused([&] { scene.run(*program, {line(0, 1, saw), all(67)}); }))
    scene.expect("y of an index out of range", program->output(0), all(std::nan("")));
  scene.run(*program, {line(0, 1, saw), all(66)});
  scene.expect("y of the run after one that was refused", program->output(0), all(-1));
}

constexpr ProgramCase kCases[] = {
    {"run_again", run_again},
    {"inputs_stay", inputs_stay},
    {"outputs_stay", outputs_stay},
    {"states_move", states_move},
    {"state_as_output", state_as_output},
    {"states_change_places", states_change_places},
    {"shared_store", shared_store},
    {"updates_gated", updates_gated},
    {"store_access", store_access},
    {"same_operand", same_operand},
    {"values_read_late", values_read_late},
    {"outputs_of_no_node", outputs_of_no_node},
    {"other_types", other_types},
    {"weight_in_two_places", weight_in_two_places},
    {"half_copy_of_weight", half_copy_of_weight},
    {"recompiled", recompiled},
    {"destroyed_in_any_order", destroyed_in_any_order},
    {"two_stores", two_stores},
    {"nothing_and_scalars", nothing_and_scalars},
    {"refused_run", refused_run},
};

}  // namespace

std::span<const ProgramCase> program_cases() { return kCases; }

CheckReport check_program(const ProgramCase& promise, Executor& executor) {
  const CheckReport empty{.op = {}, .case_name = fmt::format("program/{}", promise.name), .kind = CheckKind::program};
  ProgramScene scene(executor);
  CheckReport report = attempt(empty, [&](const CheckReport&) {
    promise.play(scene);
    return std::string();
  });
  report.kernels = scene.kernels();
  return report;
}

}  // namespace halfstep
