// One call of a kernel that is measured beside ours. The Python twin of each struct is in peer_library.py.
#pragma once

#include <stdint.h>

enum PeerType { PEER_FLOAT32 = 0, PEER_FLOAT16 = 1, PEER_BFLOAT16 = 2 };

// Multi-scale deformable attention on ready locations. All pointers are device memory, contiguous.
typedef struct PeerAttention {
  const void* value;           // [batch, tokens, heads, channels] of type
  const void* spatial_shapes;  // [levels, 2], (height, width), of the integers that the kernel takes
  const void* level_starts;    // [levels], likewise: first token of each level
  const void* locations;       // (x, y) of each sample in 0..1, of type; what the kernel's author put beside them too
  const void* weights;         // [batch, queries, heads, levels, points] of type, after softmax; NULL if in locations
  void* output;                // [batch, queries, heads, channels] of type
  int32_t batch, tokens, heads, channels, levels, queries, points;
  int32_t type;           // PeerType
  int32_t block_threads;  // of the kernels that leave it to the caller
} PeerAttention;

enum PeerSelectionMethod { PEER_SORT = 0, PEER_SEGMENTED_SORT = 1, PEER_TOPK = 2 };

// Top-k of float32 scores. All pointers but `name` are device memory.
typedef struct PeerSelection {
  const void* scores;      // [batch, tokens] float32
  const void* positions;   // [batch, tokens] int32: 0, 1, .. in each image
  const void* boundaries;  // [batch + 1] int32: 0, tokens, 2 tokens, ..
  void* kept_scores;       // [batch, tokens] float32
  void* kept_positions;    // [batch, tokens] int32: the first `keep` of each image are the result
  void* workspace;         // NULL: only write how many bytes it takes
  int64_t workspace_bytes;
  int32_t batch, tokens, keep;
  int32_t method;  // PeerSelectionMethod
} PeerSelection;

// What peer_launch returns: a CUDA error, or one of these.
enum { PEER_UNSUPPORTED = -1, PEER_REFUSED = -2 };

#ifdef __CUDACC__
#include <cuda_runtime_api.h>
#else
typedef struct CUstream_st* cudaStream_t;  // so that host stand-ins in the tests can be built without CUDA
#endif

// extern "C" int32_t peer_launch(const PeerAttention*, cudaStream_t) or peer_launch(PeerSelection*, cudaStream_t):
// enqueues and returns; PEER_UNSUPPORTED where the kernel has no such type or method, PEER_REFUSED where it threw.
#define PEER_LAUNCH extern "C" __attribute__((visibility("default"))) int32_t peer_launch
