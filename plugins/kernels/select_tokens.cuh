// Exact top-k by radix select, one block an image, ascending indices.
//
// Why one block: at 18,000 scores (70 KiB) everything is read once into registers, 20 scores a thread, and the rest
// runs inside one multiprocessor; several blocks would have to meet in device memory after each digit, and each such
// meeting costs a launch or a grid barrier, about as much as a whole pass costs here. Above 32 scores a thread the
// scores are read again for each digit (from L2): right up to 2^20 tokens, though no longer the fastest way there.
//
// A warp owns a contiguous stretch of tokens, so counts of the warps before it and ballots within it give every kept
// token its place: ascending and deterministic without a sort. Saliency scores share few exponents, so the histogram
// has eight copies, by lane: atomics of a warp then rarely meet.
#pragma once

#include <type_traits>

#include "select_tokens.h"
#include "selection.h"

namespace sparse_detr {

constexpr int kSelectThreads = 1024;
constexpr int kSelectWarps = kSelectThreads / 32;
constexpr int kCopies = 8;

// Calls visit(integral_constant<int, Cached>) for the number of tokens: how many keys a thread holds, 0 for too many.
template <typename Visit>
auto with_cache(int tokens, Visit visit) {
  const int items = (tokens + kSelectThreads - 1) / kSelectThreads;
  if (items <= 8) return visit(std::integral_constant<int, 8>());
  if (items <= 20) return visit(std::integral_constant<int, 20>());
  if (items <= 32) return visit(std::integral_constant<int, 32>());
  return visit(std::integral_constant<int, 0>());
}

struct SelectShared {
  int histogram[kDigits * kCopies];
  int totals[kDigits];
  int digit, remaining;
  int above[2][kSelectWarps], equal[2][kSelectWarps];
};

// The keys of a thread: item i of a lane lies at first + 32 i. Cached of them in registers, all in memory if zero.
template <typename T, int Cached>
struct Keys {
  const T* scores;
  int first, items, tokens;
  uint32_t cached[Cached > 0 ? Cached : 1];

  __device__ __forceinline__ Keys(const T* scores_, int tokens_) : scores(scores_), tokens(tokens_) {
    items = (tokens + kSelectThreads - 1) / kSelectThreads;
    const int thread = static_cast<int>(threadIdx.x);
    first = thread / 32 * items * 32 + thread % 32;
#pragma unroll
    for (int i = 0; i < Cached; ++i) cached[i] = i < items ? load(first + 32 * i) : kNoKey;
  }

  __device__ __forceinline__ uint32_t load(int index) const {
    return index < tokens ? score_key(scores[index]) : kNoKey;
  }

  // Calls visit(index, key) for each item; whole warps together.
  template <typename Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    if constexpr (Cached > 0) {
#pragma unroll
      for (int i = 0; i < Cached; ++i)
        if (i < items) visit(first + 32 * i, cached[i]);
    } else {
#pragma unroll 4
      for (int i = 0; i < items; ++i) visit(first + 32 * i, load(first + 32 * i));
    }
  }
};

// Which digit, counted from the highest, holds the `remaining`-th key, and how many are still to be found in it.
// By the first warp.
__device__ __forceinline__ void choose_digit(SelectShared& shared, int remaining) {
  const int lane = static_cast<int>(threadIdx.x);
  constexpr int kMine = kDigits / 32;
  const int highest = kDigits - 1 - lane * kMine;
  int mine = 0;
#pragma unroll
  for (int i = 0; i < kMine; ++i) mine += shared.totals[highest - i];
  int through = mine;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, through, distance);
    if (lane >= distance) through += other;
  }
  int before = through - mine;
  if (before >= remaining || through < remaining) return;
  for (int digit = highest;; --digit) {
    const int count = shared.totals[digit];
    if (before + count >= remaining) {
      shared.digit = digit;
      shared.remaining = remaining - before;
      return;
    }
    before += count;
  }
}

// The threshold of the `count` highest keys, 1 <= count <= tokens.
template <typename T, int Cached>
__device__ __forceinline__ Threshold find_threshold(const Keys<T, Cached>& keys, int count, SelectShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t prefix = 0;
  for (int pass = 0; pass < KeyShape<T>::kPasses; ++pass) {
    const int shift = kDigitBits * (KeyShape<T>::kPasses - 1 - pass);
    for (int i = thread; i < kDigits * kCopies; i += kSelectThreads) shared.histogram[i] = 0;
    __syncthreads();
    keys.each([&](int, uint32_t key) {
      const uint32_t upper = pass == 0 ? 0u : key >> (shift + kDigitBits);
      if (upper == prefix)
        atomicAdd(&shared.histogram[((key >> shift) & (kDigits - 1)) * kCopies + thread % kCopies], 1);
    });
    __syncthreads();
    if (thread < kDigits) {
      int total = 0;
#pragma unroll
      for (int copy = 0; copy < kCopies; ++copy) total += shared.histogram[thread * kCopies + copy];
      shared.totals[thread] = total;
    }
    __syncthreads();
    if (thread < 32) choose_digit(shared, count);
    __syncthreads();
    prefix = prefix << kDigitBits | static_cast<uint32_t>(shared.digit);
    count = shared.remaining;
  }
  return {prefix, count};
}

// Counts kept tokens in the order of their indices: of the warps before, then item by item.
struct Order {
  Threshold threshold;
  int kept, equal;  // so far

  __device__ __forceinline__ void start(const int* above, const int* equals, const Threshold& of) {
    threshold = of;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    int before = lane < warp ? above[lane] : 0;
    equal = lane < warp ? equals[lane] : 0;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      before += __shfl_xor_sync(0xffffffffu, before, distance);
      equal += __shfl_xor_sync(0xffffffffu, equal, distance);
    }
    kept = before + (equal < threshold.ties ? equal : threshold.ties);
  }

  // Whether this lane's key is kept; `rank` is how many kept tokens have lower indices.
  __device__ __forceinline__ bool next(uint32_t key, int& rank) {
    const unsigned lower = (1u << (threadIdx.x % 32)) - 1;
    const bool is_equal = key == threshold.key;
    const unsigned equals = __ballot_sync(0xffffffffu, is_equal);
    const bool keep = key > threshold.key || (is_equal && equal + __popc(equals & lower) < threshold.ties);
    const unsigned keeps = __ballot_sync(0xffffffffu, keep);
    rank = kept + __popc(keeps & lower);
    kept += __popc(keeps);
    equal += __popc(equals);
    return keep;
  }
};

template <typename T, int Cached>
__device__ __forceinline__ void count_warp(const Keys<T, Cached>& keys, const Threshold& threshold, int* above,
                                           int* equal) {
  int more = 0, same = 0;
  keys.each([&](int, uint32_t key) {
    more += __popc(__ballot_sync(0xffffffffu, key > threshold.key));
    same += __popc(__ballot_sync(0xffffffffu, key == threshold.key));
  });
  if (threadIdx.x % 32 == 0) {
    above[threadIdx.x / 32] = more;
    equal[threadIdx.x / 32] = same;
  }
}

template <typename T, int Cached>
__global__ void __launch_bounds__(kSelectThreads, 1)
    select_tokens_kernel(const __grid_constant__ SparseDetrSelectTokens a) {
  __shared__ SelectShared shared;
  const int image = static_cast<int>(blockIdx.x);
  const int kept = a.num_keep ? clamp_count(a.num_keep[a.counts == 1 ? 0 : image], a.tokens, a.width)
                              : clamp_count(a.width, a.tokens, a.width);
  const Repetition repeat = repetition(a.width, kept);
  const Keys<T, Cached> keys(static_cast<const T*>(a.scores) + static_cast<int64_t>(image) * a.tokens, a.tokens);
  int64_t* indices = a.indices + static_cast<int64_t>(image) * a.width;

  const Threshold all = find_threshold(keys, kept, shared);
  Threshold top = {0xffffffffu, 0};
  if (repeat.extra > 0) top = find_threshold(keys, repeat.extra, shared);
  count_warp(keys, all, shared.above[0], shared.equal[0]);
  if (repeat.extra > 0) count_warp(keys, top, shared.above[1], shared.equal[1]);
  __syncthreads();

  Order order, extra{};
  order.start(shared.above[0], shared.equal[0], all);
  if (repeat.extra > 0) extra.start(shared.above[1], shared.equal[1], top);
  keys.each([&](int index, uint32_t key) {
    int rank = 0, extra_rank = 0;
    const bool keep = order.next(key, rank);
    const bool once_more = repeat.extra > 0 && extra.next(key, extra_rank);
    if (!keep) return;
    int64_t* place = indices + static_cast<int64_t>(repeat.times) * rank + extra_rank;
    const int times = repeat.times + (once_more ? 1 : 0);
    for (int i = 0; i < times; ++i) place[i] = index;
  });
}

}  // namespace sparse_detr
