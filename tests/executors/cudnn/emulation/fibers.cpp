#include "tests/executors/cudnn/emulation/fibers.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include <fmt/format.h>
#include <setjmp.h>
#include <ucontext.h>

namespace emulation {
namespace {

constexpr std::size_t kStack = std::size_t{64} << 10;
constexpr unsigned kWarp = 32;

/// Where threads wait for each other.
struct Place {
  int line = 0;
  bool orders_memory = true;

  bool operator==(const Place&) const = default;
};

/// Threads that wait for each other. One that has ended counts as there.
struct Barrier {
  unsigned expected = 0, arrived = 0;
  std::uint64_t opened = 0;
  Place place = {};  // of those that arrived
};

struct Fiber {
  ucontext_t context;  // to begin with
  jmp_buf place;       // to go on: a swap of contexts asks the system for signals each time
  bool has_begun = false;
  std::vector<std::byte> stack = std::vector<std::byte>(kStack);
  Barrier* waits_for = nullptr;
  std::uint64_t opened = 0;  // of that barrier, when the wait began
  bool has_ended = false;

  bool can_go_on() const { return !has_ended && (!waits_for || waits_for->opened != opened); }
};

struct Block {
  std::vector<Fiber*> fibers;
  Barrier all;
  std::vector<Barrier> warps;
  ucontext_t scheduler;
  jmp_buf scheduler_place;
  unsigned current = 0;
  const std::function<void()>* body = nullptr;
  Watcher* watcher = nullptr;
  std::string problem;

  Barrier& warp() { return warps[current / kWarp]; }
};
Block* running = nullptr;

void open_if_complete(Barrier& barrier) {
  if (barrier.arrived < barrier.expected || barrier.expected == 0) return;
  barrier.arrived = 0;
  ++barrier.opened;
  if (!barrier.place.orders_memory) return;
  if (&barrier == &running->all)
    running->watcher->pass_block_barrier();
  else
    running->watcher->pass_warp_barrier(static_cast<unsigned>(&barrier - running->warps.data()));
}

void end_of_thread() {
  running->fibers[running->current]->has_ended = true;
  for (Barrier* barrier : {&running->all, &running->warp()}) {
    --barrier->expected;
    open_if_complete(*barrier);
  }
}

void start() {
  (*running->body)();
  end_of_thread();
  _longjmp(running->scheduler_place, 1);
}

/// Lets the thread run until it waits or ends.
void go_on(Block& block, Fiber& fiber) {
  if (_setjmp(block.scheduler_place) != 0) return;
  if (fiber.has_begun) _longjmp(fiber.place, 1);
  fiber.has_begun = true;
  swapcontext(&block.scheduler, &fiber.context);
}

void wait(Barrier& barrier, Place place) {
  Fiber& fiber = *running->fibers[running->current];
  fiber.waits_for = &barrier;
  fiber.opened = barrier.opened;
  if (barrier.arrived++ == 0) barrier.place = place;
  if (barrier.place != place && running->problem.empty())
    running->problem = fmt::format("threads that wait for each other at two barriers, in lines {} and {}",
                                   barrier.place.line, place.line);
  open_if_complete(barrier);
  if (_setjmp(fiber.place) == 0) _longjmp(running->scheduler_place, 1);
  fiber.waits_for = nullptr;
}

void prepare(Block& block, unsigned threads) {
  block.all = {threads};
  block.warps.assign((threads + kWarp - 1) / kWarp, {});
  for (unsigned t = 0; t < threads; ++t) {
    ++block.warps[t / kWarp].expected;
    Fiber& fiber = *block.fibers[t];
    fiber.waits_for = nullptr;
    fiber.has_ended = fiber.has_begun = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
  }
}

}  // namespace

std::string run_fibers(Grid grid, Watcher& watcher, const std::function<void()>& body, std::uint32_t seed) {
  Block block;
  block.body = &body;
  block.watcher = &watcher;
  static std::vector<std::unique_ptr<Fiber>> kept;  // their stacks are large
  while (kept.size() < grid.threads) kept.push_back(std::make_unique<Fiber>());
  for (unsigned t = 0; t < grid.threads; ++t) block.fibers.push_back(kept[t].get());
  running = &block;
  std::mt19937 random(seed);
  std::vector<unsigned> order(grid.threads);
  std::iota(order.begin(), order.end(), 0U);
  for (unsigned b = 0; b < grid.blocks && block.problem.empty(); ++b) {
    prepare(block, grid.threads);
    watcher.begin_block(b);
    for (bool moves = true; moves;) {
      moves = false;
      if (seed) std::shuffle(order.begin(), order.end(), random);
      for (const unsigned t : order) {
        if (!block.fibers[t]->can_go_on()) continue;
        moves = true;
        block.current = t;
        watcher.enter(b, t, block.fibers[t]->stack);
        go_on(block, *block.fibers[t]);
      }
    }
    const auto has_ended = [](const auto& fiber) { return fiber->has_ended; };
    if (block.problem.empty() && !std::ranges::all_of(block.fibers, has_ended))
      block.problem = "a barrier that some threads never reach";
  }
  running = nullptr;
  return block.problem;
}

void block_barrier(int line) { wait(running->all, {line}); }
void warp_barrier(int line) { wait(running->warp(), {line}); }
void warp_meeting(int line) { wait(running->warp(), {line, false}); }

}  // namespace emulation
