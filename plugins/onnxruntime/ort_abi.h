// The part of ONNX Runtime's C interface that a custom-op library needs, declared by us: the onnxruntime wheels carry
// no headers. The interface is binary-stable: the table that GetApi(version) returns only ever grows at its end, so a
// function keeps its slot (static assertions in ONNX Runtime hold this from version 1 on). Slots below are of API 17
// (ONNX Runtime 1.17), the first with KernelContext_ParallelFor.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;

namespace ort {

constexpr uint32_t kApiVersion = 17;
constexpr int kInvalidArgument = 2;
constexpr int kFloat = 1;
constexpr int kInt64 = 7;

using Table = const void* const*;

struct ApiBase {
  Table (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// One function of the table, by slot and type.
template <size_t Slot, typename Function>
struct Entry {
  static Function* of(Table api) { return reinterpret_cast<Function*>(const_cast<void*>(api[Slot])); }
};

using CreateStatus = Entry<0, OrtStatus*(int code, const char* message)>;
using CreateCustomOpDomain = Entry<26, OrtStatus*(const char* domain, OrtCustomOpDomain** out)>;
using CustomOpDomainAdd = Entry<27, OrtStatus*(OrtCustomOpDomain*, const struct CustomOp*)>;
using AddCustomOpDomain = Entry<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)>;
using GetTensorMutableData = Entry<51, OrtStatus*(OrtValue*, void** out)>;
using GetDimensionsCount = Entry<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t* out)>;
using GetDimensions = Entry<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t* out, size_t count)>;
using GetTensorTypeAndShape = Entry<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo** out)>;
using KernelContextGetInput = Entry<90, OrtStatus*(const OrtKernelContext*, size_t index, const OrtValue** out)>;
using KernelContextGetOutput =
    Entry<91, OrtStatus*(OrtKernelContext*, size_t index, const int64_t* shape, size_t rank, OrtValue** out)>;
using ReleaseTensorTypeAndShapeInfo = Entry<99, void(OrtTensorTypeAndShapeInfo*)>;
using KernelContextParallelFor =
    Entry<274, OrtStatus*(const OrtKernelContext*, void (*function)(void*, size_t), size_t total, size_t batches,
                          void* data)>;

// The callbacks of one custom op, in the order of API 17.
struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp*, Table, const OrtKernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  int (*GetInputType)(const CustomOp*, size_t index);
  size_t (*GetInputTypeCount)(const CustomOp*);
  int (*GetOutputType)(const CustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const CustomOp*, size_t index);
  int (*GetOutputCharacteristic)(const CustomOp*, size_t index);
  int (*GetInputMemoryType)(const CustomOp*, size_t index);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  OrtStatus* (*CreateKernelV2)(const CustomOp*, Table, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShape)(const CustomOp*, void* context);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
};

}  // namespace ort
