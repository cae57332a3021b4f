#include "ops/proto.h"

#include <cstring>
#include <type_traits>

#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>

namespace halfstep {
namespace {

[[noreturn]] void bad_tensor(const onnx::TensorProto& proto, const std::string& required, const std::string& found) {
  throw_input_error(required, found + " in tensor '" + proto.name() + "'",
                    "the model file is damaged or was written wrongly: export it again");
}

// The typed field for a type's elements, used if raw_data is not.
template <class T>
const auto& field_of(const onnx::TensorProto& proto) {
  if constexpr (std::is_same_v<T, float>)
    return proto.float_data();
  else if constexpr (std::is_same_v<T, double>)
    return proto.double_data();
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return proto.int64_data();
  else if constexpr (std::is_same_v<T, std::uint32_t> || std::is_same_v<T, std::uint64_t>)
    return proto.uint64_data();
  else
    return proto.int32_data();
}

template <class T, class Field>
void copy_field(const onnx::TensorProto& proto, const Field& field, Tensor& tensor) {
  if (field.size() != tensor.count())
    bad_tensor(proto,
               std::to_string(tensor.count()) + " elements, as its shape " + tensor.shape().to_string() + " says",
               std::to_string(field.size()));
  T* out = tensor.data<T>();
  for (int i = 0; i < field.size(); ++i) {
    if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)
      out[i] = T::from_bits(static_cast<std::uint16_t>(field[i]));
    else
      out[i] = static_cast<T>(field[i]);
  }
}

// Types of up to 8 bits stored in int32_data, one byte (two or four packed elements) per entry.
void copy_bytes_field(const onnx::TensorProto& proto, Tensor& tensor) {
  if (static_cast<std::size_t>(proto.int32_data_size()) != tensor.bytes())
    bad_tensor(proto, std::to_string(tensor.bytes()) + " bytes", std::to_string(proto.int32_data_size()));
  auto* out = static_cast<std::uint8_t*>(tensor.raw());
  for (int i = 0; i < proto.int32_data_size(); ++i) out[i] = static_cast<std::uint8_t>(proto.int32_data(i));
}

// Complex numbers are stored as pairs.
template <class T, class Field>
void copy_pairs(const onnx::TensorProto& proto, const Field& field, Tensor& tensor) {
  if (field.size() != 2 * tensor.count())
    bad_tensor(proto, std::to_string(2 * tensor.count()) + " numbers", std::to_string(field.size()));
  T* out = tensor.data<T>();
  for (int i = 0; i < field.size(); ++i) out[i] = field[i];
}

struct AttributeWriter {
  onnx::AttributeProto& proto;
  void operator()(std::int64_t v) const {
    proto.set_type(onnx::AttributeProto::INT);
    proto.set_i(v);
  }
  void operator()(float v) const {
    proto.set_type(onnx::AttributeProto::FLOAT);
    proto.set_f(v);
  }
  void operator()(const std::string& v) const {
    proto.set_type(onnx::AttributeProto::STRING);
    proto.set_s(v);
  }
  void operator()(const Tensor& v) const {
    proto.set_type(onnx::AttributeProto::TENSOR);
    *proto.mutable_t() = tensor_to_proto(v);
  }
  void operator()(const std::shared_ptr<const Graph>&) const {
    throw_failure("an attribute without a subgraph", "'" + proto.name() + "'", "write it with onnx_io");
  }
  void operator()(const std::vector<std::int64_t>& v) const {
    proto.set_type(onnx::AttributeProto::INTS);
    proto.mutable_ints()->Assign(v.begin(), v.end());
  }
  void operator()(const std::vector<float>& v) const {
    proto.set_type(onnx::AttributeProto::FLOATS);
    proto.mutable_floats()->Assign(v.begin(), v.end());
  }
  void operator()(const std::vector<std::string>& v) const {
    proto.set_type(onnx::AttributeProto::STRINGS);
    for (const std::string& s : v) proto.add_strings(s);
  }
};

}  // namespace

onnx::AttributeProto attribute_to_proto(const std::string& name, const Attribute& value) {
  onnx::AttributeProto proto;
  proto.set_name(name);
  std::visit(AttributeWriter{proto}, value);
  return proto;
}

onnx::TensorProto tensor_to_proto(const Tensor& tensor, const std::string& name) {
  onnx::TensorProto proto;
  if (!name.empty()) proto.set_name(name);
  proto.set_data_type(static_cast<int>(tensor.dtype()));
  for (std::int64_t d : tensor.shape()) proto.add_dims(d);
  if (tensor.dtype() == DType::string)
    for (const std::string& s : tensor.span<std::string>()) proto.add_string_data(s);
  else
    proto.set_raw_data(tensor.raw(), tensor.bytes());
  return proto;
}

Tensor tensor_from_proto(const onnx::TensorProto& proto) {
  if (proto.data_location() == onnx::TensorProto::EXTERNAL)
    throw_failure("a tensor whose data is in the message", "external data in '" + proto.name() + "'",
                  "load the model with onnx_io");
  const int type = proto.data_type();
  if (type <= 0 || type > static_cast<int>(DType::i2))
    bad_tensor(proto, "an element type ONNX defines", std::to_string(type));
  const auto dtype = static_cast<DType>(type);
  const Shape shape = shape_from_proto(proto);
  for (std::int64_t d : shape)
    if (d < 0) bad_tensor(proto, "extents of 0 or more", std::to_string(d));
  const std::int64_t count = shape.count();
  // Compares with the size of the message's data before anything of the declared size is allocated.
  const std::size_t held =
      proto.has_raw_data()
          ? proto.raw_data().size()
          : static_cast<std::size_t>(proto.float_data_size() + proto.int32_data_size() + proto.int64_data_size() +
                                     proto.double_data_size() + proto.uint64_data_size() + proto.string_data_size()) *
                16;
  const std::size_t least = dtype == DType::string ? 1 : std::max<std::size_t>(bits_of(dtype), 1);
  if (static_cast<std::size_t>(count) > (held * 8 + 7) / least + 8)
    bad_tensor(proto, "as many bytes as shape " + shape.to_string() + " of " + std::string(name_of(dtype)) + " takes",
               std::to_string(held) + " bytes");
  Tensor tensor(dtype, shape);
  if (proto.has_raw_data() && dtype != DType::string) {
    if (proto.raw_data().size() != tensor.bytes())
      bad_tensor(proto, std::to_string(tensor.bytes()) + " bytes, as its shape " + shape.to_string() + " says",
                 std::to_string(proto.raw_data().size()));
    if (tensor.bytes() > 0) std::memcpy(tensor.raw(), proto.raw_data().data(), tensor.bytes());
    return tensor;
  }
  if (dtype == DType::string) {
    if (proto.string_data_size() != count)
      bad_tensor(proto, std::to_string(count) + " strings", std::to_string(proto.string_data_size()));
    for (int i = 0; i < proto.string_data_size(); ++i) tensor.data<std::string>()[i] = proto.string_data(i);
  } else if (dtype == DType::c64) {
    copy_pairs<float>(proto, proto.float_data(), tensor);
  } else if (dtype == DType::c128) {
    copy_pairs<double>(proto, proto.double_data(), tensor);
  } else if (is_float(dtype) || is_integer(dtype) || dtype == DType::boolean) {
    visit_dtype(dtype, [&]<class T>() { copy_field<T>(proto, field_of<T>(proto), tensor); });
  } else {
    copy_bytes_field(proto, tensor);
  }
  return tensor;
}

onnx::TypeProto type_to_proto(DType dtype, const Shape& shape) {
  onnx::TypeProto proto;
  auto* type = proto.mutable_tensor_type();
  type->set_elem_type(static_cast<int>(dtype));
  if (shape.is_ranked()) {
    auto* dims = type->mutable_shape();
    for (std::int64_t d : shape) {
      auto* dim = dims->add_dim();
      if (d >= 0) dim->set_dim_value(d);
    }
  }
  return proto;
}

Shape shape_from_proto(const onnx::TensorProto& proto) {
  return Shape(std::vector<std::int64_t>(proto.dims().begin(), proto.dims().end()));
}

Shape shape_from_proto(const onnx::TypeProto_Tensor& proto) {
  if (!proto.has_shape()) return Shape::unranked();
  std::vector<std::int64_t> dims;
  for (const auto& dim : proto.shape().dim())
    dims.push_back(dim.has_dim_value() && dim.dim_value() >= 0 ? dim.dim_value() : Shape::kUnknown);
  return Shape(std::move(dims));
}

}  // namespace halfstep
