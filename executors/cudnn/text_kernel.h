// What makers of kernels from texts share.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "executors/cudnn/kernel.h"
#include "executors/cudnn/loaded_kernel.h"

namespace halfstep::cudnn {

/// The name of a float type in kernels/device_text.h; empty for any other type.
std::string_view float_name(DType dtype);
/// A type of so many bytes, a power of two up to 16, for what is only moved.
std::string_view word_of(std::size_t bytes);
inline std::string_view word_of(DType dtype) { return word_of(bytes_of(dtype, 1)); }
/// How many elements that lie together are moved at once, up to 16 bytes: each of `counts` is a multiple of it.
std::int64_t moved_together(DType dtype, std::initializer_list<std::span<const std::int64_t>> counts);
/// The type that counts so many elements.
std::string_view position_of(std::int64_t count);
/// The type of indices into an axis, in a text; empty for what is none.
std::string_view index_name(DType dtype);

/// A text with a value in the place of every {name}; its other braces stay.
std::string filled(std::string_view text, std::initializer_list<std::pair<std::string_view, std::string_view>> values);

/// The kernel `name` of a text that follows kernels/device_text.h and the definition of its argument, `arguments`,
/// whose type is called `argument`.
std::shared_ptr<const LoadedKernel> load_text(KernelContext& context, std::string name, std::string argument,
                                              std::string_view arguments, std::string_view text);

/// How many pieces of that size hold so many; the last may be smaller.
constexpr std::int64_t pieces_of(std::int64_t count, std::int64_t piece) { return (count + piece - 1) / piece; }
/// Blocks for so many pieces of work; a kernel goes on by the grid's size where there are more.
unsigned blocks_for(std::int64_t count, unsigned per_block);

}  // namespace halfstep::cudnn
