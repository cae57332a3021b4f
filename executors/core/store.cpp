#include <cstring>
#include <typeinfo>

#include <fmt/format.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/core/store.h>

namespace halfstep::core {
namespace {

std::string type_text(DType dtype, const Shape& shape) { return std::string(name_of(dtype)) + shape.to_string(); }

void require_type(std::string_view name, const Store::Entry& entry, const Tensor& given) {
  if (entry.dtype == given.dtype() && entry.shape == given.shape()) return;
  throw_input_error(fmt::format("state '{}' as {}", name, type_text(entry.dtype, entry.shape)),
                    type_text(given.dtype(), given.shape()), "use the state of the same model");
}

/// Memory of zeros that nobody has written takes no pages: it is not copied to other memory, which is zero already.
bool is_zero(const void* data, std::size_t bytes) {
  const auto* first = static_cast<const char*>(data);
  return bytes == 0 || (*first == 0 && std::memcmp(first, first + 1, bytes - 1) == 0);
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
    throw_input_error("the name of a state", fmt::format("'{}'", name), "see StateStore::names");
  return it->second;
}

Tensor Store::read(std::string_view name) const {
  const Entry& entry = at(name);
  Tensor result(entry.dtype, entry.shape);
  if (result.count() > 0)
    device_->move(entry.dtype, entry.shape, {entry.memory.get(), entry.layout}, {result.raw(), Layout(), host_space()});
  return result;
}

void Store::write(std::string_view name, const Tensor& value) {
  const Entry& entry = at(name);
  require_type(name, entry, value);
  if (value.count() > 0)
    device_->move(entry.dtype, entry.shape, {const_cast<void*>(value.raw()), Layout(), host_space()},
                  {entry.memory.get(), entry.layout});
}

Store::Entry& Store::bind(const std::string& name, const Tensor& initial) {
  if (const auto it = entries_.find(name); it != entries_.end()) {
    require_type(name, it->second, initial);
    return it->second;
  }
  Entry made;  // added when it has memory: a smaller step may be tried on the same store
  made.dtype = initial.dtype();
  made.shape = initial.shape();
  made.memory = device_->allocate(made.bytes(), Space::device);
  Entry& entry = entries_.emplace(name, std::move(made)).first->second;
  if (!is_zero(initial.raw(), initial.bytes())) write(name, initial);
  return entry;
}

void Store::adopt(Entry& entry, const Layout& layout, Device& device) {
  if (entry.layout == layout) return;
  const Entry before = entry;
  Entry after = entry;
  after.layout = layout;
  after.memory = device.allocate(after.bytes(), Space::device);
  entry = after;
  if (entry.shape.count() > 0 && !(device.is_host() && is_zero(before.memory.get(), before.bytes())))
    device.move(entry.dtype, entry.shape, {before.memory.get(), before.layout}, {entry.memory.get(), layout});
}

Store& Store::of(StateStore& store, const Device& device, std::string_view executor) {
  auto* own = dynamic_cast<Store*>(&store);
  const bool fits = own && typeid(*own->device_) == typeid(device);
  if (!fits)
    throw_input_error(fmt::format("a store made by the {} executor", executor), "another executor's",
                      "use Executor::make_store");
  return *own;
}

}  // namespace halfstep::core
