#include "executors/cudnn/update_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/kernels/device_text.h"
#include "executors/cudnn/kernels/list_arguments.h"
#include "executors/cudnn/kernels/row_arguments.h"
#include "ops/optimizers/update_graph.h"
#include <halfstep/graph/id_map.h>

namespace halfstep::cudnn {
namespace {

/// Where a value is computed.
enum class Place : std::uint8_t { once, tensor, element };

struct Known {
  std::string name;
  Place place = Place::once;
  std::size_t sums_before = 0;  ///< how many rounds of sums it takes to have it
};

constexpr std::size_t kScalars = 3;

/// The statements of an update in a kernel.
class Writer {
 public:
  Writer(const Graph& graph, const Shape& shape, const UpdateTypes& types)
      : graph_(graph),
        shape_(shape),
        types_(types),
        known_(graph.values.size()),
        sum_of_(graph.values.size()),
        product_of_(graph.values.size()) {}

  std::optional<UpdateTexts> write() {
    if (graph_.inputs.size() != kScalars + types_.in.size() || graph_.outputs.size() != types_.out.size() ||
        types_.in.size() > ListEntry::kIn || types_.out.size() > ListEntry::kOut)
      return std::nullopt;
    const char* const scalars[] = {"lr", "step", "factor"};
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
      const bool is_scalar = i < kScalars;
      if (!is_scalar && graph_[graph_.inputs[i]].shape != shape_) return std::nullopt;
      known_[graph_.inputs[i]] = {is_scalar ? scalars[i] : fmt::format("x{}", i - kScalars),
                                  is_scalar ? Place::once : Place::element};
    }
    for (const Node& node : graph_.nodes)
      if (!add(node)) return std::nullopt;
    UpdateTexts made;
    made.sum_count = sums_.size();
    std::size_t rounds = 0;
    for (const Sum& sum : sums_) rounds = std::max(rounds, sum.round);
    for (std::size_t round = 1; round <= rounds; ++round) made.sums.push_back(sum_texts(round));
    made.update = update_text(rounds);
    return made;
  }

 private:
  struct Statement {
    Place place;
    std::size_t sums_before;
    std::string text;
  };
  struct Sum {
    std::size_t round, number;
    std::string of;
  };

  Known operand(ValueId id) {
    if (!known_[id].name.empty()) return known_[id];
    const Value& value = graph_[id];
    if (!value.is_constant() || value.constant.count() != 1 || value.dtype != DType::f32) return {};
    return known_[id] = {float_text(*value.constant.data<float>()), Place::once};
  }

  bool add(const Node& node) {
    const Value& result = graph_[node.output(0)];
    Known& known = known_[node.outputs[0]];
    known.name = fmt::format("v{}", statements_.size());
    if (node.op == "ReduceSum") {
      const Known of = operand(node.inputs[0]);
      if (of.place != Place::element || result.shape.count() != 1) return false;
      known.place = Place::tensor;
      known.sums_before = of.sums_before + 1;
      // In double, and so are products that are summed: f32 does not hold the squares of all its numbers.
      const std::string sum = fmt::format("a.sums[c.tensor * {{sums}} + {}]", sums_.size());
      statements_.push_back(
          {Place::tensor, known.sums_before, fmt::format("const float {} = (float){};\n", known.name, sum)});
      sum_of_[node.outputs[0]] = sum;
      const std::string& product = product_of_[node.inputs[0]];
      sums_.push_back({known.sums_before, sums_.size(), product.empty() ? of.name : product});
      return true;
    }
    const ElementText element = element_text(graph_, node, functions_);
    if (!element || element_name(result.dtype).empty()) return false;
    std::vector<std::string> names;
    for (const std::size_t i : element.reads) {
      const Known of = operand(node.inputs[i]);
      if (of.name.empty()) return false;
      known.place = std::max(known.place, of.place);
      known.sums_before = std::max(known.sums_before, of.sums_before);
      names.push_back(of.name);
    }
    if (node.op == "Mul") product_of_[node.outputs[0]] = fmt::format("(double){} * {}", names[0], names[1]);
    std::string text = element.with(names);
    if (node.op == "Sqrt" && !sum_of_[node.inputs[0]].empty())
      text = fmt::format("(float)sqrt({})", sum_of_[node.inputs[0]]);
    if (known.place == Place::element ? result.shape != shape_ : result.shape.count() != 1) return false;
    statements_.push_back({known.place, known.sums_before,
                           fmt::format("const {0} {1} = load(round_to<{2}>({3}));\n", value_name(result.dtype),
                                       known.name, element_name(result.dtype), text)});
    return true;
  }

  std::string statements(Place place, std::size_t sums) const {
    std::string text;
    for (const Statement& s : statements_)
      if (s.place == place && s.sums_before <= sums) text += "      " + s.text;
    const std::string from = "{sums}", to = std::to_string(sums_.size());
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos;) text.replace(at, from.size(), to);
    return text;
  }

  std::string beginning() const {
    return fmt::format("{}{}\n{}{}", kDeviceText, kListArgumentsText, kListText, functions_.text());
  }

  /// What is written of an element: where it goes, of what type, and the value before it is rounded to that.
  struct Result {
    std::string to;
    DType dtype;
    std::string value;
    bool is_always = true;  ///< else `to` may be null
  };

  /// The loops over a block's elements, whole vectors and then single ones: `inside` for each, with what is known after
  /// so many rounds of sums, and `results`. Loops over a vector are unrolled: one with an index that is not known lies
  /// in memory.
  std::string loop(std::size_t sums, const std::string& inside, const std::vector<Result>& results) const {
    std::string vectors, of_vector, singles;
    for (std::size_t k = 0; k < types_.in.size(); ++k) {
      const std::string_view element = element_name(types_.in[k]);
      vectors += fmt::format("        const Vector<{1}, V> p{0} = read<{1}, V>(tensor.in[{0}], i);\n", k, element);
      of_vector += fmt::format("          const float x{0} = load(p{0}.at[k]);\n", k);
      singles +=
          fmt::format("        const float x{0} = load(static_cast<const {1}*>(tensor.in[{0}])[i]);\n", k, element);
    }
    std::string put, written, put_single;
    for (std::size_t k = 0; k < results.size(); ++k) {
      const Result& r = results[k];
      const std::string_view element = element_name(r.dtype);
      const std::string if_there = r.is_always ? "" : fmt::format("if ({}) ", r.to);
      vectors += fmt::format("        Vector<{}, V> r{};\n", element, k);
      put += fmt::format("          r{}.at[k] = round_to<{}>({});\n", k, element, r.value);
      written += fmt::format("        {}write<{}, V>({}, i, r{});\n", if_there, element, r.to, k);
      put_single +=
          fmt::format("        {0}static_cast<{1}*>({2})[i] = round_to<{1}>({3});\n", if_there, element, r.to, r.value);
    }
    return fmt::format(
        R"(      const int count = (int)(c.last - c.first), whole = tensor.vectors ? count / V * V : 0;
      for (int n = threadIdx.x * V; n < whole; n += 256 * V) {{
        const i64 i = c.first + n;
{vectors}#pragma unroll
        for (int k = 0; k < V; ++k) {{
{of_vector}{elements}{inside}{put}        }}
{written}      }}
      for (int n = whole + threadIdx.x; n < count; n += 256) {{
        const i64 i = c.first + n;
{singles}{elements}{inside}{put_single}      }}
)",
        fmt::arg("vectors", vectors), fmt::arg("of_vector", of_vector),
        fmt::arg("elements", statements(Place::element, sums)), fmt::arg("inside", inside), fmt::arg("put", put),
        fmt::arg("written", written), fmt::arg("singles", singles), fmt::arg("put_single", put_single));
  }

  /// With a number of blocks the compiler spills nothing for the sake of more.
  std::string kernel(std::string_view name, std::size_t sums, const std::string& start, const std::string& body,
                     const std::string& end) const {
    // One block: without a bound ptxas takes so few registers that it spills some.
    return fmt::format(
        R"(
extern "C" __global__ void __launch_bounds__(256, 1) {name}(const __grid_constant__ ListArguments a) {{
  constexpr int V = ListArguments::kVector;
  const float lr = *static_cast<const float*>(a.scalars[0]), step = (float)*static_cast<const i64*>(a.scalars[1]);
  const bool apply = *static_cast<const bool*>(a.scalars[2]);
  const float factor = *static_cast<const float*>(a.scalars[3]);
{once}  for (i64 chunk = blockIdx.x; chunk < a.chunks; chunk += gridDim.x) {{
    const Chunk c = chunk_at(a, chunk);
    const ListEntry& tensor = a.tensors[c.tensor];
{tensor}{start}{body}{end}  }}
}}
)",
        fmt::arg("name", name), fmt::arg("once", statements(Place::once, sums)),
        fmt::arg("tensor", statements(Place::tensor, sums)), fmt::arg("start", start), fmt::arg("body", body),
        fmt::arg("end", end));
  }

  SumTexts sum_texts(std::size_t round) const {
    std::vector<Sum> here;
    std::ranges::copy_if(sums_, std::back_inserter(here), [&](const Sum& s) { return s.round == round; });
    std::string gather, put;
    for (std::size_t q = 0; q < here.size(); ++q) {
      gather += fmt::format("          acc.at[{}] += {};\n", q, here[q].of);
      put += fmt::format("    a.sums[t * {} + {}] = acc.at[{}];\n", sums_.size(), here[q].number, q);
    }
    const std::string accumulator = fmt::format(
        "struct Accumulator {{ double at[{0}]; }};\n"
        "static __device__ __forceinline__ Accumulator identity() {{ Accumulator none; for (int q = 0; q < {0}; ++q) "
        "none.at[q] = 0; return none; }}\n"
        "static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) {{ for (int q = 0; q < {0}; "
        "++q) a.at[q] += b.at[q]; return a; }}\n{1}",
        here.size(), kJoinText);
    SumTexts made;
    made.bytes = here.size() * sizeof(double);
    made.gather = {
        "update_sums", "ListArguments",
        beginning() + accumulator +
            kernel("update_sums", round - 1, "    Accumulator acc = identity();\n", loop(round - 1, gather, {}),
                   "    acc = join_lanes<256>(acc);\n    if (threadIdx.x == 0) "
                   "static_cast<Accumulator*>(a.partial)[chunk] = acc;\n")};
    made.join = {"update_join", "ListArguments",
                 beginning() + accumulator +
                     fmt::format(R"(
extern "C" __global__ void __launch_bounds__(256) update_join(const __grid_constant__ ListArguments a) {{
  for (i64 t = blockIdx.x; t < a.tensor_count; t += gridDim.x) {{
    const i64 first = a.tensors[t].first_chunk, last = t + 1 < a.tensor_count ? a.tensors[t + 1].first_chunk : a.chunks;
    Accumulator acc = identity();
    for (i64 c = first + threadIdx.x; c < last; c += 256) acc = join(acc, static_cast<const Accumulator*>(a.partial)[c]);
    acc = join_lanes<256>(acc);
    if (threadIdx.x != 0) continue;
{put}  }}
}}
)",
                                 fmt::arg("put", put))};
    return made;
  }

  KernelText update_text(std::size_t rounds) {
    // Output k replaces input 0, or from the second on the input behind the gradient.
    std::vector<Result> results;
    for (std::size_t k = 0; k < types_.out.size(); ++k)
      results.push_back({fmt::format("tensor.out[{}]", k), types_.out[k],
                         fmt::format("apply ? {} : x{}", operand(graph_.outputs[k]).name, k == 0 ? 0 : k + 1)});
    if (types_.copy != DType::undefined) {
      const std::string next = fmt::format("load(round_to<{}>({}))", element_name(types_.out[0]), results[0].value);
      results.push_back({"tensor.copy", types_.copy, next, false});
    }
    return {"update", "ListArguments", beginning() + kernel("update", rounds, "", loop(rounds, "", results), "")};
  }

  const Graph& graph_;
  const Shape& shape_;
  const UpdateTypes& types_;
  ValueMap<Known> known_;
  ValueMap<std::string> sum_of_, product_of_;  ///< in double
  FormulaFunctions functions_;
  std::vector<Statement> statements_;
  std::vector<Sum> sums_;
};

}  // namespace

std::optional<UpdateTexts> update_texts(const OptimizerDef& row, const Hyperparameters& h, const UpdateTypes& types) {
  std::optional<UpdateTexts> made;
  for (const Shape& shape : {Shape{6}, Shape{3, 5}}) {
    const Graph graph = update_graph(row, h, shape);
    std::optional<UpdateTexts> one = Writer(graph, shape, types).write();
    if (!one || (made && made->update.text != one->update.text)) return std::nullopt;
    made = std::move(one);
  }
  return made;
}

bool has_update_texts(const OptimizerDef& row) {
  const Hyperparameters h(row);
  UpdateTypes types{{DType::f32, DType::f32}, {DType::f32}};
  for (const OptimizerSlot& slot : row.slots)
    if (slot.shape(h, Shape{6})) {
      types.in.push_back(DType::f32);
      types.out.push_back(DType::f32);
    }
  return update_texts(row, h, types).has_value();
}

}  // namespace halfstep::cudnn
