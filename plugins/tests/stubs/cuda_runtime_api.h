// STUB of CUDA's header, for tests of the plugin classes where there is no CUDA: the types that they hand on.
#pragma once

typedef struct CUstream_st* cudaStream_t;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };

extern "C" const char* cudaGetErrorString(cudaError_t error);
