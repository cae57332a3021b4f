// What makers of kernels from texts share.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "executors/cudnn/kernel.h"
#include "executors/cudnn/loaded_kernel.h"

namespace halfstep::cudnn {

/// The name of a float type in kernels/device_text.h; empty for any other type.
std::string_view float_name(DType dtype);
/// An unsigned integer as wide as an element, for what is only moved.
std::string_view word_of(DType dtype);
/// The type that counts so many elements.
std::string_view position_of(std::int64_t count);

/// A text with a value in the place of every {name}; its other braces stay.
std::string filled(std::string_view text, std::initializer_list<std::pair<std::string_view, std::string_view>> values);

/// The kernel `name` of a text that follows kernels/device_text.h and the definition of its argument, `arguments`,
/// whose type is called `argument`.
std::shared_ptr<const LoadedKernel> load_text(KernelContext& context, std::string name, std::string argument,
                                              std::string_view arguments, std::string_view text);

/// Blocks for so many pieces of work; a kernel goes on by the grid's size where there are more.
unsigned blocks_for(std::int64_t count, unsigned per_block);

}  // namespace halfstep::cudnn
