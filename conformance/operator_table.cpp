#include "conformance/operator_table.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "conformance/gradient_check.h"
#include "conformance/run_graph.h"
#include "onnx_io/containers.h"
#include "ops/schema_query.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

constexpr DType kTypes[] = {DType::f16, DType::bf16, DType::f32, DType::f64, DType::i8,  DType::i16,    DType::i32,
                            DType::i64, DType::u8,   DType::u16, DType::u32, DType::u64, DType::boolean};
constexpr std::string_view kNone = "–";

std::string joined(const std::set<std::string>& kernels) {
  return kernels.empty() ? std::string(kNone) : fmt::format("{}", fmt::join(kernels, ", "));
}

// Whose kernels the plan's nodes with these names run on. Which of an executor's own is chosen depends on the machine.
void collect(Executor& executor, const Graph& graph, const std::set<std::string>& nodes, std::set<std::string>& into) {
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(graph, *store);
  for (const PlanEntry& entry : program->plan().entries)
    if (nodes.contains(entry.node)) into.insert(kernel_family(entry.kernel) == "reference" ? "reference" : "native");
}

std::set<std::string> names_of(const Graph& graph, const OpDef& op) {
  std::set<std::string> names;
  for (const Node& node : graph.nodes)
    if (node.is(op.name, op.domain)) names.insert(node.name);
  return names;
}

// Cases in other types are about types that executors need not be quick in.
bool reads_floats(const Graph& graph, const OpDef& op) {
  for (const Node& node : graph.nodes)
    if (node.is(op.name, op.domain) && node.input(0) != kNoValue && graph[node.input(0)].dtype == DType::f32)
      return true;
  return false;
}

// Nodes that the gradient rule of `op` wrote.
std::set<std::string> gradient_names(const Graph& graph, const OpDef& op) {
  std::set<NodeId> forward;
  for (const Node& node : graph.nodes)
    if (node.is(op.name, op.domain) && node.forward == kNoNode) forward.insert(node.id);
  std::set<std::string> names;
  for (const Node& node : graph.nodes)
    if (forward.contains(node.forward)) names.insert(node.name);
  return names;
}

bool runs_in(const OpDef& op, std::size_t index, DType dtype) {
  try {
    const std::optional<ConformanceCase> made = make_case(op, index, dtype);
    if (!made || !schema_takes(made->graph)) return false;
    run_graph(*make_reference_executor(), made->graph, made->inputs);
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Of the first operands of `op` in a case as it is written.
std::set<DType> types_in(const OpDef& op, std::size_t index) {
  std::set<DType> types;
  const std::optional<ConformanceCase> made = make_case(op, index, DType::f32);
  if (!made) return types;
  for (const Node& node : made->graph.nodes)
    if (node.is(op.name, op.domain) && node.input(0) != kNoValue) types.insert(made->graph[node.input(0)].dtype);
  return types;
}

std::string type_list(const OpDef& op) {
  std::vector<std::string_view> names;
  for (DType dtype : element_types(op)) names.push_back(name_of(dtype));
  return fmt::format("{}", fmt::join(names, " "));
}

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
  return result;
}

}  // namespace

KernelNames kernel_names(const OpDef& op, Executor& executor) {
  std::set<std::string> forward, backward;
  bool has_floats = false;
  for (std::size_t i = 0; i < op.cases.size(); ++i)
    if (const std::optional<ConformanceCase> made = make_case(op, i, DType::f32))
      has_floats = has_floats || reads_floats(made->graph, op);
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    try {
      std::optional<ConformanceCase> made = make_case(op, i, DType::f32);
      if (!made) continue;
      if (has_floats != reads_floats(made->graph, op)) continue;
      collect(executor, made->graph, names_of(made->graph, op), forward);
      if (!op.gradient || op.gradient == no_gradient || !op.cases[i].check_gradient) continue;
      if (!make_weighted_loss(made->graph, made->inputs, DType::f32)) continue;
      const Graph graph =
          run_pipeline(std::move(made->graph), {differentiate(), fold_constants(), remove_dead_nodes()});
      collect(executor, graph, gradient_names(graph, op), backward);
    } catch (const Error&) {
      continue;  // a failure of the checks, which name it
    }
  }
  KernelNames names{joined(forward), joined(backward)};
  if (op.gradient == no_gradient) names.backward = "zero";
  if (op.gradient && backward.empty() && op.gradient != no_gradient) names.backward = "nothing to run";
  return names;
}

std::vector<DType> element_types(const OpDef& op) {
  std::set<DType> types;
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    const std::set<DType> own = types_in(op, i);
    types.insert(own.begin(), own.end());
    for (DType dtype : kTypes)
      if (dtype != DType::f32 && !types.contains(dtype) && runs_in(op, i, dtype)) {
        types.insert(dtype);
        if (is_float(dtype)) types.insert(DType::f32);  // in which the case is written
      }
  }
  std::vector<DType> ordered;
  for (DType dtype : kTypes)
    if (types.contains(dtype)) ordered.push_back(dtype);
  return ordered;
}

std::string operator_versions(std::string_view name, std::string_view domain) {
  return fmt::format("{}", fmt::join(schema_versions(name, domain), ", "));
}

std::string operators_markdown(Executor& executor) {
  std::vector<const OpDef*> rows(op_table().begin(), op_table().end());
  std::sort(rows.begin(), rows.end(), [](const OpDef* a, const OpDef* b) {
    return std::pair(a->domain, a->name) < std::pair(b->domain, b->name);
  });
  std::string text = fmt::format(
      "# Operators\n\n"
      "Written by `halfstep check --executor {0} --markdown`.\n\n"
      "The reference executor supports every operator here in every type listed, forward and, if it has a gradient\n"
      "rule, backward. The columns of {0} tell what runs the operator's cases in f32: kernels of {0} (`native`;\n"
      "`halfstep inspect --plan` names them), the reference executor's (`reference`), or some on either.\n\n"
      "- Opsets: supported versions of the operator, each named by the opset that introduced it. All are upgraded to\n"
      "  the newest form.\n"
      "- Types: element types of the operands that may be floats; of the other operands if there are none.\n"
      "- Backward: `zero` means that the result does not depend smoothly on any input; `–` means that no gradient\n"
      "  is known, so that parameters upstream of the operator cannot be trained; `nothing to run` means that the\n"
      "  gradient does not depend on the values of these operands: the cases' result has a constant gradient, so that\n"
      "  theirs is computed when the program is compiled.\n"
      "- Precision: `half` runs in the half type of mixed precision, `follow` does when its neighbours do, `full` "
      "stays\n"
      "  in f32, `neutral` takes the type of its operands.\n\n"
      "| Operator | Opsets | Types | {0} forward | {0} backward | Precision | Note |\n"
      "|---|---|---|---|---|---|---|\n",
      executor.name());
  for (const OpDef* op : rows) {
    const KernelNames names = kernel_names(*op, executor);
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", qualified_name(*op),
                        operator_versions(op->name, op->domain), type_list(*op), names.forward, names.backward,
                        name_of(op->precision), escaped(op->note));
  }
  text +=
      "\n## Sequences and optional values\n\n"
      "These operators are eliminated while a model is loaded: a sequence becomes a list of tensors, whose length "
      "follows from\n"
      "constants, known shapes and loops with a known number of iterations (which are unrolled). Gradients pass\n"
      "through, since only the tensors remain.\n\n"
      "| Operator | Opsets |\n|---|---|\n";
  for (std::string_view op : container_operators()) text += fmt::format("| {} | {} |\n", op, operator_versions(op, ""));
  return text;
}

}  // namespace halfstep
