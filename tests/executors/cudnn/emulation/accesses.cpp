#include "tests/executors/cudnn/emulation/accesses.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "tests/executors/cudnn/emulation/emulation.h"

namespace emulation {
namespace {

constexpr unsigned kWarp = 32;
constexpr std::uintptr_t kPage = 4096;
constexpr std::size_t kMostPages = 2048;  // 200 MB of them

bool holds(Bytes memory, const std::byte* p, std::size_t bytes) {
  return p >= memory.data() && p + bytes <= memory.data() + memory.size();
}

const char* verb(Access kind) {
  return kind == Access::read ? "reads" : kind == Access::write ? "writes" : "changes atomically";
}
const char* past(Access kind) {
  return kind == Access::read ? "read" : kind == Access::write ? "wrote" : "changed atomically";
}

}  // namespace

void Accesses::begin_launch() {
  constexpr std::uint32_t kLate = 0xf0000000;
  if (now_ > kLate) {
    forget_pages();
    now_ = 0;
    std::ranges::fill(shared_bytes_, Byte());
  }
  launch_ = ++now_;
  fault_.clear();
  for (auto& [_, page] : pages_) page->allocation = {};
}
void Accesses::forget_pages() {
  pages_.clear();
  recent_ = {};
}
void Accesses::begin_block(unsigned block, Bytes shared, Bytes code) {
  block_ = block;
  block_began_ = ++now_;
  shared_ = shared;
  code_ = code;
  if (shared_bytes_.size() < shared.size()) shared_bytes_.resize(shared.size());
  pass_block_barrier();
}
void Accesses::enter(unsigned thread, Bytes stack) {
  thread_ = thread;
  stack_ = stack;
}
void Accesses::pass_block_barrier() {
  barrier_ = ++now_;
  warp_barrier_.fill(now_);
}
void Accesses::pass_warp_barrier(unsigned warp) { warp_barrier_[warp] = ++now_; }

void Accesses::fail(const std::string& what) {
  if (fault_.empty()) fault_ = fmt::format("thread {} of block {} {}", thread_, block_, what);
}

/// Whether one of `seen`, where it is not older than `since`, and an access now are in no order.
bool Accesses::conflicts(const Seen& seen, std::uint32_t since) const {
  if (seen.last < since) return false;
  if (seen.last < block_began_ || seen.is_of_earlier_block) return true;
  if (seen.last < barrier_) return false;
  const unsigned warp = thread_ / kWarp;
  if (seen.spread == Spread::block || seen.thread / kWarp != warp) return true;
  if (seen.last < warp_barrier_[warp]) return false;
  return seen.spread == Spread::warp || seen.thread != thread_;
}

void Accesses::add(Seen& seen, std::uint32_t since) const {
  if (seen.last < barrier_) {
    seen.is_of_earlier_block = seen.last >= since && (seen.is_of_earlier_block || seen.last < block_began_);
    seen.spread = Spread::thread;
  } else if (seen.thread / kWarp != thread_ / kWarp) {
    seen.spread = Spread::block;
  } else if (seen.spread != Spread::block) {
    const bool is_alone = seen.last < warp_barrier_[thread_ / kWarp];
    if (is_alone || seen.thread != thread_) seen.spread = is_alone ? Spread::thread : Spread::warp;
  }
  seen.thread = static_cast<std::uint16_t>(thread_);
  seen.last = now_;
}

void Accesses::access_byte(Byte& byte, const std::byte* p, Access kind, bool is_shared) {
  const std::uint32_t since = is_shared ? barrier_ : launch_;
  for (const Access other : {Access::write, Access::atomic, Access::read}) {
    if (other == kind && kind != Access::write) continue;
    const Seen& seen = byte[static_cast<std::size_t>(other)];
    if (!conflicts(seen, since)) continue;
    const bool is_here = seen.last >= barrier_;
    fail(fmt::format("{} {}, which {} {} with no barrier between", verb(kind), place_of(p),
                     is_here ? fmt::format("thread {}", seen.thread) : "another block", past(other)));
  }
  if (is_shared && kind != Access::write && byte[1].last < block_began_ && byte[2].last < block_began_)
    fail(fmt::format("{} {}, which none of the block wrote", verb(kind), place_of(p)));
  add(byte[static_cast<std::size_t>(kind)], since);
}

void Accesses::access_bytes(std::span<Byte> seen, const std::byte* p, Access kind, bool is_shared) {
  // Those of a number mostly have one past.
  if (std::memcmp(seen.data(), seen.data() + 1, seen.size_bytes() - sizeof(Byte)) == 0) {
    access_byte(seen[0], p, kind, is_shared);
    std::fill(seen.begin() + 1, seen.end(), seen[0]);
    return;
  }
  for (std::size_t i = 0; i < seen.size(); ++i) access_byte(seen[i], p + i, kind, is_shared);
}

Accesses::Page& Accesses::page_of(std::uintptr_t number) {
  Recent& recent = recent_[number % recent_.size()];
  if (!recent.page || recent.number != number) {
    if (pages_.size() >= kMostPages && !pages_.contains(number)) forget_pages();
    std::unique_ptr<Page>& page = pages_[number];
    if (!page) page = std::make_unique<Page>();
    recent = {number, page.get()};
  }
  return *recent.page;
}

void Accesses::access_global(const std::byte* p, std::size_t bytes, Access kind) {
  for (const std::byte* end = p + bytes; p < end;) {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    Page& page = page_of(address / kPage);
    if (!holds(page.allocation, p, end - p)) {
      page.allocation = allocation_before(p);
      if (!holds(page.allocation, p, end - p)) return fail(fmt::format("{} {}", verb(kind), place_of(p)));
    }
    const std::size_t first = address % kPage, here = std::min<std::size_t>(kPage - first, end - p);
    access_bytes(std::span(page.bytes).subspan(first, here), p, kind, false);
    p += here;
  }
}

void Accesses::access(const void* at, std::size_t bytes, Access kind) {
  if (!fault_.empty()) return;
  const auto* p = static_cast<const std::byte*>(at);
  if ((holds(code_, p, bytes) && kind == Access::read) || holds(stack_, p, bytes)) return;
  if (holds(shared_, p, bytes))
    return access_bytes({&shared_bytes_[static_cast<std::size_t>(p - shared_.data())], bytes}, p, kind, true);
  access_global(p, bytes, kind);
}

std::string Accesses::place_of(const std::byte* p) const {
  if (holds(shared_, p, 1)) return fmt::format("byte {} of shared memory", p - shared_.data());
  const Bytes block = allocation_before(p);
  if (holds(block, p, 1)) return fmt::format("byte {} of an allocation of {}", p - block.data(), block.size());
  return fmt::format("{}, which is no memory of the device, {} bytes behind an allocation of {}",
                     static_cast<const void*>(p), p - block.data() - static_cast<std::ptrdiff_t>(block.size()),
                     block.size());
}

}  // namespace emulation
