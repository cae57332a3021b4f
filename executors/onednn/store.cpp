#include "executors/onednn/store.h"

#include "graph/error.h"

namespace halfstep::onednn {
namespace {

Tensor byte_buffer(DType dtype, std::int64_t elements) {
  return Tensor(DType::u8, Shape{static_cast<std::int64_t>(bytes_of(dtype, static_cast<std::size_t>(elements)))});
}

void require_type(std::string_view name, const Store::Entry& entry, const Tensor& given) {
  if (entry.dtype == given.dtype() && entry.shape == given.shape()) return;
  throw_input_error(
      "state '" + std::string(name) + "' as " + std::string(name_of(entry.dtype)) + entry.shape.to_string(),
      std::string(name_of(given.dtype())) + given.shape().to_string(), "use the state of the same model");
}

}  // namespace

std::vector<std::string> Store::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : entries_) result.push_back(name);
  return result;
}

bool Store::has(std::string_view name) const { return entries_.find(name) != entries_.end(); }

const Store::Entry& Store::at(std::string_view name) const {
  auto it = entries_.find(name);
  if (it == entries_.end())
    throw_input_error("the name of a state", "'" + std::string(name) + "'", "see StateStore::names");
  return it->second;
}

Tensor Store::read(std::string_view name) const {
  const Entry& entry = at(name);
  Tensor result(entry.dtype, entry.shape);
  if (result.count() > 0)
    reorder_now(entry.shape, entry.dtype, entry.memory.raw(), entry.layout, result.raw(), Layout());
  return result;
}

void Store::write(std::string_view name, const Tensor& value) {
  const Entry& entry = at(name);
  require_type(name, entry, value);
  if (value.count() > 0)
    reorder_now(entry.shape, entry.dtype, value.raw(), Layout(), const_cast<void*>(entry.memory.raw()), entry.layout);
}

Store::Entry& Store::bind(const std::string& name, const Tensor& initial) {
  auto [it, is_new] = entries_.try_emplace(name);
  Entry& entry = it->second;
  if (!is_new) {
    require_type(name, entry, initial);
    return entry;
  }
  entry.dtype = initial.dtype();
  entry.shape = initial.shape();
  entry.memory = byte_buffer(entry.dtype, initial.count());
  write(name, initial);
  return entry;
}

void Store::adopt(Entry& entry, const Layout& layout) {
  if (entry.layout == layout) return;
  Tensor moved = byte_buffer(entry.dtype, layout.stored(entry.shape.count()));
  if (entry.shape.count() > 0)
    reorder_now(entry.shape, entry.dtype, entry.memory.raw(), entry.layout, moved.raw(), layout);
  entry.memory = moved;
  entry.layout = layout;
}

}  // namespace halfstep::onednn
