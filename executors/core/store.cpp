#include <algorithm>
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
  at(name);
  Entry& entry = entries_.find(name)->second;
  require_type(name, entry, value);
  ++entry.version;
  if (value.count() > 0)
    device_->move(entry.dtype, entry.shape, {const_cast<void*>(value.raw()), Layout(), host_space()},
                  {entry.memory.get(), entry.layout});
}

Store::Entry& Store::bind(const Graph& graph, const State& state) {
  if (state.source == kNoValue) return bind(graph[state.value].name, state.initial);
  const State& source = graph.states.at(static_cast<std::size_t>(graph.state_of(state.source)));
  return copy_of(bind(graph, source), state.initial.dtype());
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

Store::Entry& Store::copy_of(Entry& source, DType dtype) {
  std::unique_ptr<Entry>& copy = source.copies[dtype];
  if (copy) return *copy;
  auto made = std::make_unique<Entry>();
  made->dtype = dtype;
  made->shape = source.shape;
  made->layout = source.layout;
  made->version = 0;
  made->source = &source;
  made->memory = device_->allocate(made->bytes(), Space::device);
  copy = std::move(made);
  return *copy;
}

void Store::adopt(Entry& entry, const Layout& layout, Device& device) {
  Entry& home = entry.home();
  if (home.layout == layout) return;
  const auto stored = static_cast<std::size_t>(layout.stored(home.shape.count()));
  std::map<DType, std::shared_ptr<void>> copies;
  for (const auto& [dtype, copy] : home.copies) copies[dtype] = device.allocate(bytes_of(dtype, stored), Space::device);
  std::shared_ptr<void> memory = device.allocate(bytes_of(home.dtype, stored), Space::device);
  if (home.shape.count() > 0 && !(device.is_host() && is_zero(home.memory.get(), home.bytes())))
    device.move(home.dtype, home.shape, {home.memory.get(), home.layout}, {memory.get(), layout});
  home.layout = layout;
  home.memory = std::move(memory);
  for (const auto& [dtype, copy] : home.copies) {
    copy->layout = layout;
    copy->memory = std::move(copies[dtype]);
    copy->version = 0;
  }
}

void Store::renew(Entry& copy) {
  const Entry& source = *copy.source;
  if (copy.version == source.version) return;
  constexpr std::int64_t kBlock = 1 << 20;
  const auto at = [](const Entry& entry, std::int64_t element) -> void* {
    return static_cast<std::byte*>(entry.memory.get()) + bytes_of(entry.dtype, static_cast<std::size_t>(element));
  };
  const std::int64_t count = source.layout.stored(source.shape.count());  // both are in one layout
  for (std::int64_t first = 0; first < count; first += kBlock) {
    const Shape block{std::min(kBlock, count - first)};
    Tensor wide(source.dtype, block);
    device_->move(source.dtype, block, {at(source, first), Layout()}, {wide.raw(), Layout(), host_space()});
    Tensor half = convert(wide, copy.dtype);
    device_->move(copy.dtype, block, {half.raw(), Layout(), host_space()}, {at(copy, first), Layout()});
  }
  copy.version = source.version;
}

Store& Store::of(StateStore& store, const Device& device, std::string_view executor) {
  auto* own = dynamic_cast<Store*>(&store);
  // Host memory is that of every executor; a device's is its own.
  const bool fits =
      own && (own->device_.get() == &device || (device.is_host() && typeid(*own->device_) == typeid(device)));
  if (!fits)
    throw_input_error(fmt::format("a store made by the {} executor", executor), "another executor's",
                      "use Executor::make_store");
  return *own;
}

}  // namespace halfstep::core
