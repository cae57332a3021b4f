// The states of a run, each in the layout that the first program to use it liked best.
#pragma once

#include <map>
#include <string>

#include "executors/executor.h"
#include "executors/onednn/layout.h"

namespace halfstep::onednn {

class Store final : public StateStore {
 public:
  struct Entry {
    DType dtype = DType::undefined;
    Shape shape;
    Layout layout;
    bool is_settled = false;  ///< programs hold its address: the layout stays
    Tensor memory;            ///< as bytes

    std::int64_t stored() const { return layout.stored(shape.count()); }
  };

  std::vector<std::string> names() const override;
  bool has(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void write(std::string_view name, const Tensor& value) override;

  /// The state's entry, good for the store's life; a new one holds `initial`, row-major and not settled.
  /// Throws Error when it is there with another dtype or shape.
  Entry& bind(const std::string& name, const Tensor& initial);
  /// Moves a state that is not settled to another layout.
  static void adopt(Entry& entry, const Layout& layout);

 private:
  const Entry& at(std::string_view name) const;

  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace halfstep::onednn
