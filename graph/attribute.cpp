
#include <halfstep/base/error.h>
#include <halfstep/graph/attribute.h>

namespace halfstep {
namespace {

template <class T>
T get(const Attributes& attributes, std::string_view name, T fallback, const char* type) {
  const Attribute* a = attributes.find(name);
  if (!a) return fallback;
  if (const T* value = std::get_if<T>(a)) return *value;
  throw_input_error("attribute '" + std::string(name) + "' of type " + type, "another type",
                    "check the node with the ONNX checker");
}

}  // namespace

const Attribute* Attributes::find(std::string_view name) const {
  for (const Entry& e : entries_)
    if (e.first == name) return &e.second;
  return nullptr;
}

std::int64_t Attributes::get_int(std::string_view name, std::int64_t fallback) const {
  return get<std::int64_t>(*this, name, fallback, "int");
}
float Attributes::get_float(std::string_view name, float fallback) const {
  return get<float>(*this, name, fallback, "float");
}
std::string Attributes::get_string(std::string_view name, std::string_view fallback) const {
  return get<std::string>(*this, name, std::string(fallback), "string");
}
std::vector<std::int64_t> Attributes::get_ints(std::string_view name, std::vector<std::int64_t> fallback) const {
  return get<std::vector<std::int64_t>>(*this, name, std::move(fallback), "ints");
}
std::vector<float> Attributes::get_floats(std::string_view name, std::vector<float> fallback) const {
  return get<std::vector<float>>(*this, name, std::move(fallback), "floats");
}

void Attributes::set(std::string_view name, Attribute value) {
  for (Entry& e : entries_) {
    if (e.first == name) {
      e.second = std::move(value);
      return;
    }
  }
  entries_.emplace_back(std::string(name), std::move(value));
}

void Attributes::remove(std::string_view name) {
  std::erase_if(entries_, [&](const Entry& e) { return e.first == name; });
}

}  // namespace halfstep
