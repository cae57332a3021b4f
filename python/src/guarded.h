// Objects that are not thread-safe and can be closed: concurrent use and use after close raise errors.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include <halfstep/base/error.h>

namespace halfstep::python {

/// Python runs other threads while a call computes. Concurrent use of the same object throws Error.
template <class T>
class Guarded {
 public:
  Guarded(std::string name, std::unique_ptr<T> object) : name_(std::move(name)), object_(std::move(object)) {}

  class Use {
   public:
    explicit Use(Guarded& owner) : owner_(owner) {
      if (owner_.busy_.test_and_set())
        throw_input_error("one call of a " + owner_.name_ + " at a time", "a call while another runs",
                          "give each thread its own, or use a lock");
      if (!owner_.object_) {
        owner_.busy_.clear();
        throw_input_error("an open " + owner_.name_, "one that was closed", "make a new one");
      }
    }
    ~Use() { owner_.busy_.clear(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

    T& operator*() const { return *owner_.object_; }
    T* operator->() const { return owner_.object_.get(); }

   private:
    Guarded& owner_;
  };

  Use use() { return Use(*this); }
  /// Releases its resources. Closing twice is not an error.
  void close() {
    if (!object_) return;
    const Use use(*this);
    object_.reset();
  }
  bool is_closed() const { return !object_; }

 private:
  std::string name_;
  std::unique_ptr<T> object_;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace halfstep::python
