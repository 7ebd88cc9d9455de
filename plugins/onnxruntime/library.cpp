// The custom-op library for ONNX Runtime: registers sparse_detr::MSDeformAttn for the CPU.
#include <string>

#include "ms_deform_attn.h"
#include "ort_abi.h"

#if defined(_WIN32)
#define SPARSE_DETR_EXPORT extern "C" __declspec(dllexport)
#else
#define SPARSE_DETR_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

using sparse_detr::MSDeformAttnArguments;

constexpr size_t kInputs = 5;
constexpr int64_t kRowsPerTask = 32;  // neighbouring queries stay on one core, whose cache holds what they share
const char* const kNames[kInputs] = {"value", "spatial_shapes", "reference_points", "sampling_offsets",
                                     "attention_logits"};
const size_t kRanks[kInputs] = {4, 2, 4, 6, 4};

struct Tensor {
  int64_t shape[6];
  void* data;
};

OrtStatus* refuse(ort::Table api, const std::string& why) {
  return ort::CreateStatus::of(api)(ort::kInvalidArgument, ("MSDeformAttn: " + why).c_str());
}

OrtStatus* read(ort::Table api, OrtKernelContext* context, size_t index, Tensor& tensor) {
  const OrtValue* value = nullptr;
  if (OrtStatus* status = ort::KernelContextGetInput::of(api)(context, index, &value)) return status;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  if (OrtStatus* status = ort::GetTensorTypeAndShape::of(api)(value, &info)) return status;
  size_t rank = 0;
  OrtStatus* status = ort::GetDimensionsCount::of(api)(info, &rank);
  if (!status && rank == kRanks[index]) status = ort::GetDimensions::of(api)(info, tensor.shape, rank);
  ort::ReleaseTensorTypeAndShapeInfo::of(api)(info);
  if (status) return status;
  if (rank != kRanks[index])
    return refuse(api, std::string(kNames[index]) + " has " + std::to_string(rank) + " dimensions instead of " +
                           std::to_string(kRanks[index]));
  return ort::GetTensorMutableData::of(api)(const_cast<OrtValue*>(value), &tensor.data);
}

// Every shape that the kernel relies on; it reads without further checks.
const char* mismatch(const Tensor* t, const MSDeformAttnArguments& a) {
  const int64_t* reference = t[2].shape;
  const int64_t* offsets = t[3].shape;
  const int64_t* logits = t[4].shape;
  if (a.levels < 1 || a.levels > sparse_detr::kMaxLevels) return "1 to 8 levels are supported";
  if (a.points < 1 || a.points > sparse_detr::kMaxPoints) return "1 to 64 points a head and level are supported";
  if (t[1].shape[1] != 2) return "spatial_shapes must be [levels, 2]";
  if (offsets[0] != a.batch || offsets[2] != a.heads || offsets[3] != a.levels || offsets[5] != 2)
    return "sampling_offsets must be [batch, queries, heads, levels, points, 2]";
  if (logits[0] != a.batch || logits[1] != a.queries || logits[2] != a.heads || logits[3] != a.levels * a.points)
    return "attention_logits must be [batch, queries, heads, levels * points]";
  if ((reference[0] != a.batch && reference[0] != 1) || reference[1] != a.queries ||
      (reference[2] != a.levels && reference[2] != 1) || (reference[3] != 2 && reference[3] != 4))
    return "reference_points must be [batch or 1, queries, levels or 1, 2 or 4]";
  int64_t tokens = 0;
  for (int64_t level = 0; level < a.levels; ++level) {
    const int64_t height = a.spatial_shapes[2 * level], width = a.spatial_shapes[2 * level + 1];
    if (height < 1 || width < 1 || height > (1 << 20) || width > (1 << 20)) return "a level has no tokens or too many";
    tokens += height * width;
  }
  return tokens == a.tokens ? nullptr : "the levels of spatial_shapes do not add up to the tokens of value";
}

struct Task {
  MSDeformAttnArguments arguments;
  int64_t rows;
};

void run_task(void* data, size_t index) {
  const Task& task = *static_cast<const Task*>(data);
  const int64_t first = static_cast<int64_t>(index) * kRowsPerTask;
  const int64_t last = first + kRowsPerTask < task.rows ? first + kRowsPerTask : task.rows;
  sparse_detr::ms_deform_attn(task.arguments, first, last);
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const ort::Table api = static_cast<ort::Table>(kernel);
  Tensor inputs[kInputs];
  for (size_t index = 0; index < kInputs; ++index)
    if (OrtStatus* status = read(api, context, index, inputs[index])) return status;

  Task task{};
  MSDeformAttnArguments& a = task.arguments;
  a.value = static_cast<const float*>(inputs[0].data);
  a.spatial_shapes = static_cast<const int64_t*>(inputs[1].data);
  a.reference_points = static_cast<const float*>(inputs[2].data);
  a.sampling_offsets = static_cast<const float*>(inputs[3].data);
  a.attention_logits = static_cast<const float*>(inputs[4].data);
  a.batch = inputs[0].shape[0];
  a.tokens = inputs[0].shape[1];
  a.heads = inputs[0].shape[2];
  a.channels = inputs[0].shape[3];
  a.levels = inputs[1].shape[0];
  a.queries = inputs[3].shape[1];
  a.points = inputs[3].shape[4];
  a.reference_batch = inputs[2].shape[0];
  a.reference_levels = inputs[2].shape[2];
  a.reference_size = inputs[2].shape[3];
  if (const char* why = mismatch(inputs, a)) return refuse(api, why);

  const int64_t shape[3] = {a.batch, a.queries, a.heads * a.channels};
  OrtValue* output = nullptr;
  if (OrtStatus* status = ort::KernelContextGetOutput::of(api)(context, 0, shape, 3, &output)) return status;
  void* data = nullptr;
  if (OrtStatus* status = ort::GetTensorMutableData::of(api)(output, &data)) return status;
  a.output = static_cast<float*>(data);
  task.rows = a.batch * a.queries;
  const size_t tasks = static_cast<size_t>((task.rows + kRowsPerTask - 1) / kRowsPerTask);
  return tasks == 0 ? nullptr : ort::KernelContextParallelFor::of(api)(context, run_task, tasks, 0, &task);
}

// The kernel has no state of its own: its handle is the interface table.
OrtStatus* create(const ort::CustomOp*, ort::Table api, const OrtKernelInfo*, void** kernel) {
  *kernel = const_cast<void*>(static_cast<const void*>(api));
  return nullptr;
}

const ort::CustomOp& ms_deform_attn_op() {
  static const ort::CustomOp op = [] {
    ort::CustomOp callbacks{};
    callbacks.version = ort::kApiVersion;
    callbacks.GetName = [](const ort::CustomOp*) { return "MSDeformAttn"; };
    callbacks.GetExecutionProviderType = [](const ort::CustomOp*) { return "CPUExecutionProvider"; };
    callbacks.GetInputType = [](const ort::CustomOp*, size_t index) { return index == 1 ? ort::kInt64 : ort::kFloat; };
    callbacks.GetInputTypeCount = [](const ort::CustomOp*) { return kInputs; };
    callbacks.GetOutputType = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
    callbacks.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 1; };
    callbacks.KernelDestroy = [](void*) {};
    callbacks.GetInputCharacteristic = [](const ort::CustomOp*, size_t) { return 0; };
    callbacks.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return 0; };
    callbacks.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return 0; };
    callbacks.GetVariadicInputMinArity = [](const ort::CustomOp*) { return 1; };
    callbacks.GetVariadicInputHomogeneity = [](const ort::CustomOp*) { return 1; };
    callbacks.GetVariadicOutputMinArity = [](const ort::CustomOp*) { return 1; };
    callbacks.GetVariadicOutputHomogeneity = [](const ort::CustomOp*) { return 1; };
    callbacks.CreateKernelV2 = create;
    callbacks.KernelComputeV2 = compute;
    callbacks.GetStartVersion = [](const ort::CustomOp*) { return 1; };
    callbacks.GetEndVersion = [](const ort::CustomOp*) { return 1; };
    return callbacks;
  }();
  return op;
}

}  // namespace

// The entry that ONNX Runtime's register_custom_ops_library calls.
SPARSE_DETR_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const ort::ApiBase* base) {
  const ort::Table api = base->GetApi(ort::kApiVersion);
  if (!api) {
    const ort::Table oldest = base->GetApi(1);
    return oldest ? refuse(oldest, "ONNX Runtime 1.17 or newer is needed") : nullptr;
  }
  if (sparse_detr::cpu_level() == sparse_detr::CpuLevel::kUnknown)
    return refuse(api, "the environment variable SPARSE_DETR_CPU_LEVEL must be portable, avx2 or avx512, or not be set");
  // One domain for the life of the process: sessions keep pointing at it.
  static OrtCustomOpDomain* domain = nullptr;
  if (!domain) {
    OrtCustomOpDomain* made = nullptr;
    if (OrtStatus* status = ort::CreateCustomOpDomain::of(api)("sparse_detr", &made)) return status;
    if (OrtStatus* status = ort::CustomOpDomainAdd::of(api)(made, &ms_deform_attn_op())) return status;
    domain = made;
  }
  return ort::AddCustomOpDomain::of(api)(options, domain);
}

// The instruction set that the kernel uses, for tests: portable, avx2 or avx512.
SPARSE_DETR_EXPORT const char* SparseDetrCpuLevel() {
  return sparse_detr::level_name(sparse_detr::cpu_level());
}
