// The fused multi-scale deformable attention kernel.
//
// What bounds it: a query reads 64 rows of 64 bytes for each head (4 levels, 4 points, 32 half channels) and little
// else, so L1 and L2 bandwidth and then instruction issue are the walls, not device memory. Hence:
// - A row is read by D·sizeof(T)/16 lanes with one 16-byte load each; nothing is recomputed per channel.
// - Softmax, locations and corner weights are computed once for a (query, head), shared out over its lanes, and handed
//   over in shared memory: two broadcast reads a sample against eight shuffles. A few samples at a time, because
//   shared memory is taken from L1.
// - A block takes many neighbouring queries of one head. Neighbours sample the same places, and one head is an eighth
//   of a token's row: the block's rows stay in L1 (a cache simulation gave a third of the L2 traffic).
// - Weights stay unnormalised until the end: one pass over exponentials, one division.
// - Few queries (the decoder's 300) would leave the chip empty: there the samples of a query are shared out over
//   `Split` groups of lanes, which add up at the end.
#pragma once

#include <type_traits>

#include "ms_deform_attn.h"
#include "sampling.h"

namespace sparse_detr {

constexpr unsigned kFullWarp = 0xffffffffu;

// Lanes: lanes for one row, a power of two. Split: groups of lanes for one (query, head).
template <typename T, int Lanes, int Split>
struct AttentionShape {
  static constexpr int kThreads = Split == 1 ? 256 : 128;
  static constexpr int kTeam = Lanes * Split;  // lanes for one (query, head)
  static constexpr int kTeams = kThreads / kTeam;
  static constexpr int kPerLane = kTeam >= 8 ? 1 : 2;  // samples that a lane locates at a time
  static constexpr int kChunk = kTeam * kPerLane;      // samples handed over at a time
  static_assert(kTeam <= 32 && (kTeam & (kTeam - 1)) == 0, "a team lies within one warp");
};

// Groups of lanes where a query's samples are shared out.
template <int Lanes>
constexpr int kSharedOut = Lanes > 8 ? 32 / Lanes : 4;

// Calls visit(integral_constant<int, Lanes>) for the width of a head.
template <typename T, typename Visit>
auto with_lanes(int channels, Visit visit) {
  constexpr int kWidth = Pack<T>::kWidth;
  const int lanes = (channels + kWidth - 1) / kWidth;
  if constexpr (kWidth == 8) {
    if (lanes == 1) return visit(std::integral_constant<int, 1>());
  } else {
    if (lanes > 8) return visit(std::integral_constant<int, 16>());
  }
  if (lanes <= 2) return visit(std::integral_constant<int, 2>());
  if (lanes <= 4) return visit(std::integral_constant<int, 4>());
  return visit(std::integral_constant<int, 8>());
}

template <int Team>
__device__ __forceinline__ float team_max(float x) {
#pragma unroll
  for (int distance = 1; distance < Team; distance *= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, distance));
  return x;
}

template <int From, int To>
__device__ __forceinline__ float lanes_sum(float x) {
#pragma unroll
  for (int distance = From; distance < To; distance *= 2) x += __shfl_xor_sync(kFullWarp, x, distance);
  return x;
}

// Height and width of all levels, by the first `levels` threads of the block; `valid` where they add up.
__device__ __forceinline__ void read_levels(const SparseDetrMSDeformAttn& a, Level* levels, int* valid) {
  const int mine = static_cast<int>(threadIdx.x);
  if (mine >= a.levels) return;
  int64_t total = 0, start = 0;
  bool sane = true;
  for (int level = 0; level < a.levels; ++level) {
    const int64_t height = a.spatial_shapes ? a.spatial_shapes[2 * level] : a.level_shapes[2 * level];
    const int64_t width = a.spatial_shapes ? a.spatial_shapes[2 * level + 1] : a.level_shapes[2 * level + 1];
    if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide) sane = false;
    if (level == mine) {
      start = total;
      levels[mine] = {static_cast<float>(height), static_cast<float>(width), static_cast<int>(width), 0};
    }
    total += sane ? height * width : 0;
  }
  levels[mine].start = static_cast<int>(start);
  if (mine == 0) *valid = sane && total == a.tokens;
}

template <typename R>
__device__ __forceinline__ Anchor read_anchor(const R* place, const Level& level, int size, float half_per_point) {
  const float2 centre = load_pair(place);
  return size == 4 ? anchor_box(level, centre, load_pair(place + 2), half_per_point) : anchor_point(level, centre);
}

// `first` counts packs from the image's start. Every load of the batch is issued before the first is used.
template <typename T, int Count>
__device__ __forceinline__ void gather(const uint4* packs, const float4* weights, const int4* firsts, int stride,
                                       float (&sum)[Pack<T>::kWidth]) {
  uint4 rows[Count][4];
  float4 weight[Count];
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const int4 first = firsts[i * stride];
    weight[i] = weights[i * stride];
    rows[i][0] = __ldg(packs + first.x);
    rows[i][1] = __ldg(packs + first.y);
    rows[i][2] = __ldg(packs + first.z);
    rows[i][3] = __ldg(packs + first.w);
  }
#pragma unroll
  for (int i = 0; i < Count; ++i) accumulate<T>(rows[i], weight[i], sum);
}

template <typename T, int Lanes, int Split>
__global__ void __launch_bounds__(AttentionShape<T, Lanes, Split>::kThreads, Split == 1 ? 4 : 6)
    ms_deform_attn_kernel(const __grid_constant__ SparseDetrMSDeformAttn a) {
  using Shape = AttentionShape<T, Lanes, Split>;
  constexpr int kWidth = Pack<T>::kWidth;
  __shared__ Level levels[kMaxLevels];
  __shared__ int valid;
  // One more than needed: teams of a warp then read different banks.
  __shared__ float4 weights[Shape::kTeams][Shape::kChunk + 1];
  __shared__ int4 firsts[Shape::kTeams][Shape::kChunk + 1];

  read_levels(a, levels, &valid);

  const int team = static_cast<int>(threadIdx.x) / Shape::kTeam;
  const int lane = static_cast<int>(threadIdx.x) % Shape::kTeam;
  const int group = lane / Lanes;
  const int channel = lane % Lanes * kWidth;
  // Lanes and teams beyond the end repeat the work of a valid one, so that whole warps meet; only they do not write.
  const int64_t wanted = static_cast<int64_t>(blockIdx.x) * Shape::kTeams + team;
  const int64_t query = wanted < a.queries ? wanted : a.queries - 1;
  const int head = static_cast<int>(blockIdx.y), image = static_cast<int>(blockIdx.z);
  const bool writes = wanted < a.queries && channel < a.channels && group == 0;
  const int64_t row = (static_cast<int64_t>(image) * a.queries + query) * a.heads + head;
  const int samples = a.levels * a.points;
  const T* logits = static_cast<const T*>(a.attention_logits) + row * samples;
  const T* offsets = static_cast<const T*>(a.sampling_offsets) + row * samples * 2;
  uint4* output = reinterpret_cast<uint4*>(static_cast<T*>(a.output) + row * a.channels + channel);

  float most = -INFINITY;
  for (int sample = lane; sample < samples; sample += Shape::kTeam) most = fmaxf(most, to_float(logits[sample]));
  most = team_max<Shape::kTeam>(most);

  __syncthreads();
  float sum[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum[i] = 0.0f;
  if (!valid) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] = NAN;
    if (writes) *output = Pack<T>::pack(sum);
    return;
  }

  const int64_t reference_row = (a.reference_batch == 1 ? 0 : static_cast<int64_t>(image) * a.queries) + query;
  const int64_t reference_first = reference_row * a.reference_levels * a.reference_size;
  const int reciprocal = point_reciprocal(a.points);
  const float half_per_point = 0.5f / static_cast<float>(a.points);
  const int packs_per_token = a.heads * a.channels / kWidth;
  const uint4* packs = reinterpret_cast<const uint4*>(
      static_cast<const T*>(a.value) + (static_cast<int64_t>(image) * a.tokens * a.heads + head) * a.channels +
      (channel < a.channels ? channel : 0));
  float total = 0.0f;

  for (int first = 0; first < samples; first += Shape::kChunk) {
#pragma unroll
    for (int i = 0; i < Shape::kPerLane; ++i) {
      const int place = lane * Shape::kPerLane + i, sample = first + place;
      if (sample < samples) {
        const int index = level_of(sample, reciprocal);
        const Level level = levels[index];
        const int64_t at = reference_first + (a.reference_levels == 1 ? 0 : index * a.reference_size);
        const Anchor anchor =
            a.reference_type == SPARSE_DETR_FLOAT32
                ? read_anchor(static_cast<const float*>(a.reference_points) + at, level, a.reference_size,
                              half_per_point)
                : read_anchor(static_cast<const T*>(a.reference_points) + at, level, a.reference_size, half_per_point);
        const float weight = exponential(to_float(logits[sample]) - most);
        total += weight;
        const Corners corners = find_corners(level, anchor, load_pair(offsets + 2 * sample), weight);
        weights[team][place] = corners.weight;
        firsts[team][place] = make_int4(corners.token.x * packs_per_token, corners.token.y * packs_per_token,
                                        corners.token.z * packs_per_token, corners.token.w * packs_per_token);
      }
    }
    __syncwarp();
    const int count = samples - first < Shape::kChunk ? samples - first : Shape::kChunk;
    int sample = group;
    for (; sample + Split < count; sample += 2 * Split)
      gather<T, 2>(packs, &weights[team][sample], &firsts[team][sample], Split, sum);
    if (sample < count) gather<T, 1>(packs, &weights[team][sample], &firsts[team][sample], Split, sum);
    __syncwarp();  // the next samples take the place of these
  }

  const float scale = 1.0f / lanes_sum<1, Shape::kTeam>(total);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum[i] = lanes_sum<Lanes, Shape::kTeam>(sum[i]) * scale;
  if (writes) *output = Pack<T>::pack(sum);
}

}  // namespace sparse_detr
