// Memory by whole pages.
#pragma once

#include <cstddef>
#include <memory>

namespace halfstep {

/// A tensor of so many bytes has pages of its own.
inline constexpr std::size_t kPagesOfItsOwn = std::size_t{1} << 20;

/// Pages that take no memory until they are written, read as zeros until then, and go back to the system at once. There
/// must be some bytes. Throws std::bad_alloc.
std::shared_ptr<void> map_pages(std::size_t bytes);

}  // namespace halfstep
