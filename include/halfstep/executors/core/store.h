// The states of a run in device memory, each in the layout preferred by the first program that uses it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/executors/core/device.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {
namespace core {

class Store final : public StateStore {
 public:
  explicit Store(std::shared_ptr<Device> device) : device_(std::move(device)) {}

  struct Entry {
    DType dtype = DType::undefined;
    Shape shape;
    Layout layout;
    bool is_settled = false;  ///< programs hold its address: the layout is final; of a copy: see `home`
    std::shared_ptr<void> memory;
    /// How often it has been changed; of a copy, of which change of its source it was made.
    std::uint64_t version = 1;
    Entry* source = nullptr;                           ///< of a copy (StateRole::copy)
    std::map<DType, std::unique_ptr<Entry>> copies{};  ///< in the same layout

    /// The state whose layout this one shares.
    Entry& home() { return source ? *source : *this; }
    std::size_t bytes() const { return bytes_of(dtype, static_cast<std::size_t>(layout.stored(shape.count()))); }
  };

  std::vector<std::string> names() const override;
  bool has(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void write(std::string_view name, const Tensor& value) override;

  /// The entry of a graph's state, valid for the store's lifetime; a new one has the value State::initial, row-major
  /// and not settled, and lies with its source if it is a copy. Throws Error if the state exists with another dtype or
  /// shape.
  Entry& bind(const Graph& graph, const State& state);
  /// Moves a state that is not settled to another layout, with what shares it.
  static void adopt(Entry& entry, const Layout& layout, Device& device);
  /// Makes a copy anew from its source, by way of the host, if that has been changed since.
  void renew(Entry& copy);

  /// The store as a core::Store; throws Error if it belongs to another executor.
  static Store& of(StateStore& store, const Device& device, std::string_view executor);

 private:
  Entry& bind(const std::string& name, const Tensor& initial);
  Entry& copy_of(Entry& source, DType dtype);
  const Entry& at(std::string_view name) const;

  Space host_space() const { return device_->is_host() ? Space::device : Space::host; }

  std::shared_ptr<Device> device_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace core
}  // namespace halfstep
