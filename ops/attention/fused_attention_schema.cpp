// Schemas of FusedAttention and AttentionGrad, with function bodies that gather rows from the tensors' elements, and
// scatter them back.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ops/attention/fused_attention.h"
#include "ops/epilogue_schema.h"
#include "ops/schema_util.h"
#include <halfstep/base/error.h>

namespace halfstep::ops {
namespace {

constexpr const char* kIntegers[] = {"extents", "q", "k", "v", "y", "mask", "y_shape"};

void add_attributes(onnx::OpSchema& schema) {
  using onnx::AttributeProto;
  const auto view = [&](const char* name, const char* of) {
    schema.Attr(name,
                std::string("Where the rows of ") + of +
                    " begin: the first, then the strides from batch to batch, "
                    "head to head, member to member of a group and row to row, in elements of the tensor.",
                AttributeProto::INTS);
  };
  schema.Attr("extents", "Batch, heads of keys, queries' heads for each, queries, keys, width of a query, of a value.",
              AttributeProto::INTS);
  view("q", "queries");
  view("k", "keys");
  view("v", "values");
  view("y", "results");
  schema.Attr("mask", "The same of the mask, and its stride from key to key.", AttributeProto::INTS, false)
      .Attr("scale", "Factor of the products.", AttributeProto::FLOAT, 1.0f)
      .Attr("causal", "1: query i sees keys 0 to i.", AttributeProto::INT, std::int64_t{0})
      .Attr("y_shape", "The shape of Y.", AttributeProto::INTS);
}

void add_operands(onnx::OpSchema& schema, int first) {
  using onnx::OpSchema;
  constrain_floats(schema, "T", "Any float type.");
  constrain_floats(schema, "U", "Any float type.");
  schema.Input(first, "Q", "A tensor that holds the queries.", "T")
      .Input(first + 1, "K", "One that holds the keys; left out: they are in Q.", "T", OpSchema::Optional)
      .Input(first + 2, "V", "One that holds the values; left out: they are where the keys are.", "T",
             OpSchema::Optional)
      .Input(first + 3, "mask", "One that holds what is added to the scores.", "U", OpSchema::Optional);
}

template <class Call>
FusedAttentionConfig config_of(const Call& call) {
  Attributes attributes;
  for (const char* name : kIntegers)
    if (const onnx::AttributeProto* given = call.getAttribute(name))
      attributes.set(name, std::vector<std::int64_t>(given->ints().begin(), given->ints().end()));
  if (const auto* given = call.getAttribute("scale")) attributes.set("scale", given->f());
  if (const auto* given = call.getAttribute("causal")) attributes.set("causal", given->i());
  return FusedAttentionConfig(attributes);
}

/// Checked against operands with known shapes; inference fails if they do not fit.
FusedAttentionConfig checked_config(onnx::InferenceContext& ctx, std::size_t first) {
  try {
    FusedAttentionConfig c = config_of(ctx);
    std::int64_t counts[4] = {-1, -1, -1, -1};
    bool known = true;
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t at = first + i;
      const onnx::TypeProto* type = at < ctx.getNumInputs() ? ctx.getInputType(at) : nullptr;
      if (!type) {
        counts[i] = i == 3 || i == 0 ? -1 : counts[i - 1];
        continue;
      }
      if (!onnx::hasShape(*type)) known = false;
      counts[i] = 1;
      if (known)
        for (const auto& dim : type->tensor_type().shape().dim()) {
          if (!dim.has_dim_value()) known = false;
          counts[i] *= dim.dim_value();
        }
    }
    if (!known) return c;
    const std::string misfit = c.misfit_of_operands(counts[0], counts[1], counts[2], counts[3]);
    if (!misfit.empty()) fail_shape_inference("operands that the attributes do not fit: " + misfit);
    return c;
  } catch (const Error& error) {
    fail_shape_inference(error.what());
  }
}

/// `name`: the indices of rows in a tensor's elements, [batch, heads, group, rows, width].
std::string indices(std::string_view name, const RowView& view, std::array<std::int64_t, 4> extents, std::int64_t width,
                    std::int64_t column = 1) {
  std::string text, sum;
  for (std::size_t axis = 0; axis < 5; ++axis) {
    const std::int64_t n = axis < 4 ? extents[axis] : width, step = axis < 4 ? view.strides[axis] : column;
    std::vector<std::int64_t> steps, shape(5, 1);
    for (std::int64_t i = 0; i < n; ++i) steps.push_back(i * step + (axis == 0 ? view.offset : 0));
    shape[axis] = n;
    text += fmt::format("{}_{} = Constant<value = int64[{}] {{{}}}>()\n", name, axis, fmt::join(shape, ","),
                        fmt::join(steps, ", "));
    const std::string next = axis == 4 ? std::string(name) : fmt::format("{}_s{}", name, axis);
    if (axis > 0) text += fmt::format("{} = Add({}, {}_{})\n", next, sum, name, axis);
    sum = axis == 0 ? fmt::format("{}_0", name) : next;
  }
  return text;
}
std::string indices(std::string_view name, const RowSet& rows) {
  return indices(name, *rows.view, rows.extents, rows.width);
}

/// `name`: the rows at `name`_i in `tensor`.
std::string gather(std::string_view name, std::string_view tensor, const std::string& index_text) {
  return index_text + fmt::format("{0}_flat = Reshape({1}, all)\n{0} = Gather({0}_flat, {0}_i)\n", name, tensor);
}

/// q, k, v, and their masked scores as `scores`.
std::string scores_text(const onnx::FunctionBodyBuildContext& call, const FusedAttentionConfig& c, int first) {
  const bool has_k = call.hasInput(first + 1), has_v = call.hasInput(first + 2), has_mask = call.hasInput(first + 3);
  std::string text = "all = Constant<value_ints = [-1]>()\n";
  text += gather("q", "Q", indices("q_i", rows_of_q(c)));
  text += gather("k", has_k ? "K" : "Q", indices("k_i", rows_of_k(c)));
  text += gather("v", has_v ? "V" : has_k ? "K" : "Q", indices("v_i", rows_of_v(c)));
  text += "k_t = Transpose<perm = [0, 1, 2, 4, 3]>(k)\nproducts = MatMul(q, k_t)\n";
  text += constant_text("factor", c.scale, "products") + "plain = Mul(products, factor)\n";
  std::string scores = "plain";
  if (has_mask) {
    text += gather("m", "mask", indices("m_i", c.mask, {c.batch, c.heads, c.group, c.queries}, c.keys, c.mask_column));
    text += "plain_m = CastLike(plain, m)\nmasked = Add(plain_m, m)\n";
    scores = "masked";
  }
  if (c.causal) {
    std::vector<std::int64_t> keys, queries;
    for (std::int64_t j = 0; j < c.keys; ++j) keys.push_back(j);
    for (std::int64_t i = 0; i < c.queries; ++i) queries.push_back(i);
    text += fmt::format("positions = Constant<value = int64[{}] {{{}}}>()\n", c.keys, fmt::join(keys, ", "));
    text += fmt::format("own = Constant<value = int64[{},1] {{{}}}>()\n", c.queries, fmt::join(queries, ", "));
    text += "seen = LessOrEqual(positions, own)\nlowest = Constant<value_float = -3e38>()\n";
    text += fmt::format("never = CastLike(lowest, {0})\nhidden = Where(seen, {0}, never)\n", scores);
    scores = "hidden";
  }
  return text + fmt::format("soft = Softmax({0})\nscores = Identity({0})\np = CastLike(soft, Q)\n", scores);
}

std::string attention_text(const onnx::FunctionBodyBuildContext& call) {
  const FusedAttentionConfig c = config_of(call);
  return scores_text(call, c, 0) + indices("y_i", rows_of_y(c)) +
         fmt::format(
             "rows = MatMul(p, v)\nrows_flat = Reshape(rows, all)\ny_flat = Reshape(y_i, all)\n"
             "empty = Mul(rows_flat, rows_flat)\nfilled = ScatterElements(empty, y_flat, rows_flat)\n"
             "y_shape = Constant<value_ints = {}>()\nY = Reshape<allowzero = 1>(filled, y_shape)\n"
             "last = Constant<value_ints = [4]>()\nlogs = ReduceLogSumExp<keepdims = 0>(scores, last)\n"
             "statistics = Cast<to = 1>(logs)\n",
             text_of(c.y_shape));
}

/// The gradient of one tensor, as the sum of `parts`.
std::string scatter(std::string_view result, std::string_view tensor, const std::vector<std::string>& parts) {
  std::string text =
      fmt::format("{0}_elements = Reshape({1}, all)\n{0}_0 = Sub({0}_elements, {0}_elements)\n{0}_shape = Shape({1})\n",
                  result, tensor);
  for (std::size_t i = 0; i < parts.size(); ++i)
    text += fmt::format(
        "{0}_p{1} = Reshape(d{2}, all)\n{0}_i{1} = Reshape({2}_i, all)\n"
        "{0}_{3} = ScatterElements<reduction = \"add\">({0}_{1}, {0}_i{1}, {0}_p{1})\n",
        result, i, parts[i], i + 1);
  return text + fmt::format("{0} = Reshape<allowzero = 1>({0}_{1}, {0}_shape)\n", result, parts.size());
}

std::string gradient_text(const onnx::FunctionBodyBuildContext& call) {
  const FusedAttentionConfig c = config_of(call);
  std::string text = scores_text(call, c, 1) + gather("dy", "dY", indices("dy_i", rows_of_y(c)));
  text +=
      "p_t = Transpose<perm = [0, 1, 2, 4, 3]>(p)\ndv = MatMul(p_t, dy)\nv_t = Transpose<perm = [0, 1, 2, 4, 3]>(v)\n"
      "dp = MatMul(dy, v_t)\nshares = Mul(dp, p)\nlast = Constant<value_ints = [4]>()\nmean = ReduceSum(shares, last)\n"
      "centred = Sub(dp, mean)\nds_plain = Mul(centred, p)\nds = Mul(ds_plain, factor)\ndq = MatMul(ds, k)\n"
      "ds_t = Transpose<perm = [0, 1, 2, 4, 3]>(ds)\ndk = MatMul(ds_t, q)\n";
  const bool has_k = call.hasInput(2), has_v = call.hasInput(3);
  std::vector<std::string> parts[3];
  parts[0].push_back("q");
  parts[has_k ? 1 : 0].push_back("k");
  parts[has_v ? 2 : has_k ? 1 : 0].push_back("v");
  const char* tensors[] = {"Q", "K", "V"};
  for (std::size_t i = 0; i < 3; ++i)
    if (!parts[i].empty()) text += scatter(fmt::format("d{}", tensors[i]), tensors[i], parts[i]);
  return text;
}

}  // namespace

void fused_attention_schema(onnx::OpSchema& schema) {
  add_operands(schema, 0);
  add_attributes(schema);
  schema.SetDoc("softmax(scale Q K' + mask) V of rows that lie anywhere in their tensors.")
      .Output(0, "Y", "The means of the values.", "T")
      .Output(1, "statistics", "The logarithm of the sum of exponentials of each query's scores.", "tensor(float)")
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        onnx::propagateElemTypeFromInputToOutput(ctx, 0, 0);
        const FusedAttentionConfig c = checked_config(ctx, 0);
        set_output_shape(ctx, 0, c.y_shape);
        if (ctx.getNumOutputs() < 2) return;
        onnx::updateOutputElemType(ctx, 1, onnx::TensorProto::FLOAT);
        set_output_shape(ctx, 1, c.statistics().dims());
      });
  set_function_body(schema, attention_text);
}

void attention_grad_schema(onnx::OpSchema& schema) {
  using onnx::OpSchema;
  schema.SetDoc("Gradient of FusedAttention.").Input(0, "dY", "Gradient with respect to FusedAttention's Y.", "T");
  add_operands(schema, 1);
  add_attributes(schema);
  schema.Input(5, "statistics", "FusedAttention's statistics.", "tensor(float)")
      .Input(6, "Y", "FusedAttention's Y, for executors that need not compute it again.", "T", OpSchema::Optional)
      .Output(0, "dQ", "Gradient with respect to Q.", "T")
      .Output(1, "dK", "Gradient with respect to K, where it is given.", "T", OpSchema::Optional)
      .Output(2, "dV", "Gradient with respect to V, where it is given.", "T", OpSchema::Optional)
      .TypeAndShapeInferenceFunction([](onnx::InferenceContext& ctx) {
        const FusedAttentionConfig c = checked_config(ctx, 1);
        const std::vector<std::int64_t> dy = static_shape_of(ctx.getInputType(0));
        if (!dy.empty() && dy != c.y_shape) fail_shape_inference("dY must have the shape y_shape");
        for (std::size_t i = 0; i < 3 && i < ctx.getNumOutputs(); ++i)
          if (ctx.getInputType(1 + i)) propagate(ctx, 1 + i, i);
      });
  set_function_body(schema, gradient_text);
}

}  // namespace halfstep::ops
