// Kernels that compute nothing: what they are launched with is remembered, and they answer as a test tells them to.
#pragma once

#include "../kernels/ms_deform_attn.h"
#include "../kernels/select_tokens.h"

struct Recorded {
  SparseDetrMSDeformAttn checked_attention, attention;
  SparseDetrSelectTokens checked_selection, selection;
  cudaStream_t stream;
  int launches;
  cudaError_t answer;   // of a launch
  const char* refusal;  // of a check; NULL: none
};

// Of a library that the plugins are linked with, as `recorded`.
using RecordedGetter = Recorded*();
