// Runs CUDA kernels on the CPU: every thread of a block is a fibre with its own stack, so the very source of the
// kernels is tested where there is no GPU. Fibres run one after another up to their next barrier or warp exchange,
// each warp as far as it comes before the next, in either order: a missing barrier shows as a wrong result, a barrier
// that not all threads reach as an error. What it cannot show: timing, memory faults, weak memory order, the device's
// own rounding of fast functions. Include before the kernels; not for nvcc.
#pragma once

#include <cuda_runtime_api.h>
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#undef __shared__
#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __shared__ static  // one block at a time
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

inline uint3 threadIdx, blockIdx;

namespace emulation {

// What __ldg may read, and how often it was to read elsewhere: an idle lane that does shows in no result.
inline const void *readable_first = nullptr, *readable_last = nullptr;
inline int stray_reads = 0;

inline void allow_reads(const void* first, size_t bytes) {
  readable_first = first;
  readable_last = static_cast<const char*>(first) + bytes;
}

enum class Order { kForward, kBackward };

class Block {
 public:
  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

  Block(int threads, Order order) : fibres_(threads), slots_(threads), order_(order) {
    if (threads % 32 != 0) throw std::invalid_argument("whole warps only");
  }

  void run(const std::function<void()>& kernel) {
    kernel_ = &kernel;
    current() = this;
    for (size_t i = 0; i < fibres_.size(); ++i) prepare(fibres_[i], stack(i));
    const size_t warps = fibres_.size() / 32;
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t turn = 0; turn < warps; ++turn)
        moved |= run_warp(order_ == Order::kForward ? turn : warps - 1 - turn);
    }
    for (const Fibre& fibre : fibres_)
      if (!fibre.finished) throw std::runtime_error("deadlock: a barrier that not all threads reach");
    current() = nullptr;
  }

  void block_barrier() { wait(block_, fibres_.size()); }
  void warp_barrier() { wait(warps_[running_ / 32], 32); }

  // All lanes put a value, then each reads the one of `from`.
  template <typename T>
  T exchange(T value, int from) {
    const size_t first = running_ / 32 * 32;
    static_assert(sizeof(T) <= sizeof(uint64_t), "a slot is eight bytes");
    memcpy(&slots_[running_], &value, sizeof value);
    warp_barrier();
    T result;
    memcpy(&result, &slots_[first + static_cast<size_t>(from)], sizeof result);
    warp_barrier();
    return result;
  }

  unsigned ballot(bool predicate) {
    const size_t first = running_ / 32 * 32;
    slots_[running_] = predicate;
    warp_barrier();
    unsigned result = 0;
    for (unsigned lane = 0; lane < 32; ++lane) result |= static_cast<unsigned>(slots_[first + lane] != 0) << lane;
    warp_barrier();
    return result;
  }

 private:
  static constexpr size_t kStack = 64 << 10;
  struct Barrier {
    size_t arrived = 0, generation = 0;
  };
  struct Fibre {
    ucontext_t context;
    bool finished = false;
    const Barrier* waits_for = nullptr;
    size_t generation = 0;
  };

  void prepare(Fibre& fibre, char* memory) {
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = memory;
    fibre.context.uc_stack.ss_size = kStack;
    fibre.context.uc_link = &scheduler_;
    makecontext(&fibre.context, &Block::enter, 0);
  }

  // As far as this warp comes without the others; whether it came any further.
  bool run_warp(size_t warp) {
    bool moved = false;
    for (bool again = true; again;) {
      again = false;
      for (size_t turn = 0; turn < 32; ++turn) {
        const size_t i = warp * 32 + (order_ == Order::kForward ? turn : 31 - turn);
        Fibre& fibre = fibres_[i];
        if (fibre.finished || (fibre.waits_for && fibre.waits_for->generation == fibre.generation)) continue;
        fibre.waits_for = nullptr;
        running_ = i;
        threadIdx = {static_cast<unsigned>(i), 0, 0};
        swapcontext(&scheduler_, &fibre.context);
        again = moved = true;
      }
    }
    return moved;
  }

  // Stacks outlive their block: fresh pages cost more than the kernels.
  static char* stack(size_t index) {
    static std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() <= index) stacks.emplace_back(new char[kStack]);
    return stacks[index].get();
  }

  static void enter() {
    Block& block = *current();
    (*block.kernel_)();
    block.fibres_[block.running_].finished = true;
  }

  void wait(Barrier& barrier, size_t expected) {
    Fibre& fibre = fibres_[running_];
    if (++barrier.arrived == expected) {
      barrier.arrived = 0;
      ++barrier.generation;
      return;
    }
    fibre.waits_for = &barrier;
    fibre.generation = barrier.generation;
    const size_t self = running_;
    swapcontext(&fibre.context, &scheduler_);
    running_ = self;
    threadIdx = {static_cast<unsigned>(self), 0, 0};
  }

  std::vector<Fibre> fibres_;
  std::vector<uint64_t> slots_;
  Barrier block_, warps_[32];
  Order order_;
  size_t running_ = 0;
  ucontext_t scheduler_{};
  const std::function<void()>* kernel_ = nullptr;
};

inline void launch(dim3 grid, int threads, Order order, const std::function<void()>& kernel) {
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        Block(threads, order).run(kernel);
      }
}

}  // namespace emulation

inline void __syncthreads() { emulation::Block::current()->block_barrier(); }
inline void __syncwarp() { emulation::Block::current()->warp_barrier(); }
inline unsigned __ballot_sync(unsigned, bool predicate) { return emulation::Block::current()->ballot(predicate); }
template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  return emulation::Block::current()->exchange(value, static_cast<int>(threadIdx.x % 32) ^ distance);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int distance) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return emulation::Block::current()->exchange(value, lane >= distance ? lane - distance : lane);
}
inline int atomicAdd(int* address, int value) {
  const int before = *address;
  *address += value;
  return before;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
template <typename T>
T __ldg(const T* address) {
  if (address >= emulation::readable_first && address + 1 <= emulation::readable_last) return *address;
  ++emulation::stray_reads;
  return T{};
}
