// The states of a run in device memory, each in the layout preferred by the first program that uses it.
#pragma once

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
    bool is_settled = false;  ///< programs hold its address: the layout is final
    std::shared_ptr<void> memory;

    std::size_t bytes() const { return bytes_of(dtype, static_cast<std::size_t>(layout.stored(shape.count()))); }
  };

  std::vector<std::string> names() const override;
  bool has(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void write(std::string_view name, const Tensor& value) override;

  /// The state's entry, valid for the store's lifetime; a new one has the value `initial`, row-major and not settled.
  /// Throws Error if the state exists with another dtype or shape.
  Entry& bind(const std::string& name, const Tensor& initial);
  /// Moves a state that is not settled to another layout.
  static void adopt(Entry& entry, const Layout& layout, Device& device);

  /// The store as a core::Store; throws Error if it belongs to another executor.
  static Store& of(StateStore& store, const Device& device, std::string_view executor);

 private:
  const Entry& at(std::string_view name) const;

  Space host_space() const { return device_->is_host() ? Space::device : Space::host; }

  std::shared_ptr<Device> device_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace core
}  // namespace halfstep
