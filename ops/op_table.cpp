#include <mutex>
#include <string>

#include <onnx/defs/schema.h>

#include "base/enum_names.h"
#include "ops/collective/all_reduce.h"
#include "ops/families.h"
#include "ops/matmul/gemm_training.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

struct Table {
  std::vector<const OpDef*> rows;
  std::unordered_multimap<std::string_view, const OpDef*> by_name;  // of several domains

  Table() {
    for (std::span<const OpDef> family :
         {ops::matmul_ops(), ops::gemm_training_ops(), ops::einsum_ops(), ops::convolution_ops(), ops::pooling_ops(),
          ops::normalization_ops(), ops::activation_ops(), ops::unary_ops(), ops::binary_ops(), ops::reduction_ops(),
          ops::shape_ops(), ops::recurrent_ops(), ops::attention_ops(), ops::loss_ops(), ops::optimizer_ops(),
          ops::onnx_optimizer_ops(), ops::control_flow_ops(), ops::collective_ops()}) {
      for (const OpDef& row : family) add(row);
    }
  }

  void add(const OpDef& row) {
    rows.push_back(&row);
    by_name.emplace(row.name, &row);
  }
};

Table& table() {
  static Table instance;
  return instance;
}

}  // namespace

std::string_view name_of(PrecisionClass c) {
  constexpr std::string_view kNames[] = {"half", "follow", "full", "neutral"};
  return name_in(kNames, c);
}

std::span<const OpDef* const> op_table() { return table().rows; }

const OpDef* find_op(std::string_view name, std::string_view domain) {
  const auto [first, last] = table().by_name.equal_range(name);
  for (auto it = first; it != last; ++it)
    if (it->second->domain == domain) return it->second;
  return nullptr;
}

void add_operators(std::span<const OpDef> rows) {
  for (const OpDef& row : rows) {
    const OpDef* present = find_op(row.name, row.domain);
    const char* required = row.domain.empty() || row.domain == "ai.onnx" || row.domain == kOwnDomain
                               ? "operators of a domain of the plug-in's own"
                           : !row.reference || !row.infer ? "operators with a reference kernel and inference"
                           : present && present != &row   ? "operators that no other plug-in brings"
                                                          : nullptr;
    if (required)
      throw_input_error(required, std::string(row.domain).append(1, '.').append(row.name), "change the plug-in");
  }
  for (const OpDef& row : rows)
    if (!find_op(row.name, row.domain)) table().add(row);
}

std::vector<Expr> no_gradient(GradientContext&) { return {}; }

void register_schemas() {
  static std::once_flag once;
  std::call_once(once, [] {
    onnx::OpSchemaRegistry::DomainToVersionRange::Instance().AddDomainToVersion(std::string(kOwnDomain), 1, kOwnOpset);
    for (const OpDef* row : op_table()) {
      if (!row->schema) continue;
      onnx::OpSchema schema(std::string(row->name), "ops/op_table.cpp", __LINE__);
      schema.SetDomain(std::string(row->domain)).SinceVersion(kOwnOpset);
      row->schema(schema);
      schema.Finalize();
      onnx::RegisterSchema(schema, 0, true, true);
    }
  });
}

}  // namespace halfstep
