#include <mutex>
#include <string>
#include <unordered_map>

#include <onnx/defs/schema.h>

#include "ops/families.h"
#include "ops/op_def.h"

namespace halfstep {
namespace {

struct Table {
  std::vector<const OpDef*> rows;
  std::unordered_map<std::string, const OpDef*> by_name;

  Table() {
    for (std::span<const OpDef> family :
         {ops::matmul_ops(), ops::einsum_ops(), ops::convolution_ops(), ops::pooling_ops(), ops::normalization_ops(),
          ops::activation_ops(), ops::unary_ops(), ops::binary_ops(), ops::reduction_ops(), ops::shape_ops(),
          ops::recurrent_ops(), ops::attention_ops(), ops::loss_ops(), ops::optimizer_ops(), ops::onnx_optimizer_ops(),
          ops::control_flow_ops()}) {
      for (const OpDef& row : family) {
        rows.push_back(&row);
        by_name.emplace(key(row.name, row.domain), &row);
      }
    }
  }

  static std::string key(std::string_view name, std::string_view domain) {
    return std::string(domain).append(1, ':').append(name);
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

}  // namespace

std::string_view name_of(PrecisionClass c) {
  switch (c) {
    case PrecisionClass::half:
      return "half";
    case PrecisionClass::follow:
      return "follow";
    case PrecisionClass::full:
      return "full";
    case PrecisionClass::neutral:
      return "neutral";
  }
  return "unknown";
}

std::span<const OpDef* const> op_table() { return table().rows; }

const OpDef* find_op(std::string_view name, std::string_view domain) {
  auto it = table().by_name.find(Table::key(name, domain));
  return it == table().by_name.end() ? nullptr : it->second;
}

std::vector<Expr> no_gradient(GradientContext&) { return {}; }

void register_schemas() {
  static std::once_flag once;
  std::call_once(once, [] {
    onnx::OpSchemaRegistry::DomainToVersionRange::Instance().AddDomainToVersion(std::string(kOwnDomain), 1, kOwnOpset);
    for (const OpDef* row : op_table()) {
      if (!row->schema) continue;
      onnx::OpSchema schema(std::string(row->name), __FILE__, __LINE__);
      schema.SetDomain(std::string(row->domain)).SinceVersion(kOwnOpset);
      row->schema(schema);
      schema.Finalize();
      onnx::RegisterSchema(schema, 0, true, true);
    }
  });
}

}  // namespace halfstep
