#include "conformance/program_scene.h"

#include <stdexcept>

#include <fmt/format.h>

#include "conformance/cases.h"
#include "conformance/compare.h"
#include "conformance/run_graph.h"
#include <halfstep/base/error.h>

namespace halfstep {

Graph parse_program(std::string_view text, const std::vector<StateNames>& states) {
  Graph graph = parse_case(text);
  for (const StateNames& names : states) {
    const ValueId value = graph.find(names.value);
    const Value& now = graph[value];
    graph.states.push_back({.value = value,
                            .next = graph.find(names.next),
                            .role = names.source.empty() ? StateRole::parameter : StateRole::copy,
                            .initial = now.is_constant() ? now.constant : Tensor(now.dtype, now.shape),
                            .source = graph.find(names.source)});
    std::erase(graph.inputs, value);
    graph[value].constant = Tensor();
    graph[value].is_initializer = false;
  }
  std::erase_if(graph.outputs, [&](ValueId out) { return graph[out].name.ends_with("_next"); });
  verify(graph);
  return graph;
}

Elements all(double value) {
  return [value](std::size_t) { return value; };
}

Tensor tensor_of(const Tensor& like, const Elements& elements) {
  Tensor wide(DType::f64, like.shape());
  for (std::size_t i = 0; i < wide.span<double>().size(); ++i) wide.data<double>()[i] = elements(i);
  return convert(wide, like.dtype());
}

std::unique_ptr<Program> ProgramScene::compile(const Graph& graph, StateStore& store) {
  std::unique_ptr<Program> program = executor_.compile(graph, store);
  const std::vector<PlanEntry>& entries = program->plan().entries;
  plan_.entries.insert(plan_.entries.end(), entries.begin(), entries.end());
  kernels_ = kernel_families(plan_);
  return program;
}

void ProgramScene::run(Program& program, const std::vector<Elements>& inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor to = program.input(i);
    copy_elements(to, tensor_of(to, inputs[i]));
  }
  program.run();
}

void ProgramScene::expect(const std::string& what, const Tensor& found, const Elements& wanted) {
  const std::string differs = difference(what, found, tensor_of(found, wanted), {}, "expected");
  if (!differs.empty()) throw std::runtime_error(differs);
}

void ProgramScene::expect(const std::string& what, bool holds) {
  if (!holds) throw std::runtime_error(fmt::format("expected {}", what));
}

bool ProgramScene::is_refused(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error&) {
    return true;
  }
  return false;
}

void ProgramScene::expect_error(const std::string& what, const std::function<void()>& action) {
  if (!is_refused(action)) throw std::runtime_error(fmt::format("expected an Error from {}, got none", what));
}

}  // namespace halfstep
