// One copy of the kernel for each instruction set, and the choice between them.
#include "ms_deform_attn.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "attention_rows.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define SPARSE_DETR_X86 1
#endif

namespace sparse_detr {
namespace {

// The published models have 4 levels × 4 points a head and 32 channels; the compiler unrolls these.
template <int Channels>
SPARSE_DETR_INLINE void dispatch_count(const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  if (a.levels * a.points == 16) return rows<Channels, 16>(a, first, last);
  return rows<Channels, 0>(a, first, last);
}

SPARSE_DETR_INLINE void dispatch_width(const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  if (a.levels * a.points > kUsualSamples) return rows<0, 0, kMaxSamples>(a, first, last);
  switch (a.channels) {
    case 16: return dispatch_count<16>(a, first, last);
    case 32: return dispatch_count<32>(a, first, last);
    case 64: return dispatch_count<64>(a, first, last);
    default: return dispatch_count<0>(a, first, last);
  }
}

#ifdef SPARSE_DETR_X86
__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512"))) void rows_avx512(
    const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  dispatch_width(a, first, last);
}
__attribute__((target("avx2,fma"))) void rows_avx2(const MSDeformAttnArguments& a, int64_t first, int64_t last) {
  dispatch_width(a, first, last);
}
#endif
void rows_portable(const MSDeformAttnArguments& a, int64_t first, int64_t last) { dispatch_width(a, first, last); }

CpuLevel best_level() {
#ifdef SPARSE_DETR_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw"))
    return CpuLevel::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CpuLevel::kAvx2;
#endif
  return CpuLevel::kPortable;
}

CpuLevel capped_level() {
  const CpuLevel best = best_level();
  const char* cap = std::getenv("SPARSE_DETR_CPU_LEVEL");
  if (!cap || !*cap) return best;
  for (CpuLevel level : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512})
    if (!std::strcmp(cap, level_name(level))) return level < best ? level : best;
  return CpuLevel::kUnknown;
}

}  // namespace

const char* level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::kPortable: return "portable";
    case CpuLevel::kAvx2: return "avx2";
    case CpuLevel::kAvx512: return "avx512";
    default: return "unknown";
  }
}

CpuLevel cpu_level() {
  static const CpuLevel level = capped_level();
  return level;
}

void ms_deform_attn(const MSDeformAttnArguments& arguments, int64_t first, int64_t last) {
#ifdef SPARSE_DETR_X86
  if (cpu_level() == CpuLevel::kAvx512) return rows_avx512(arguments, first, last);
  if (cpu_level() == CpuLevel::kAvx2) return rows_avx2(arguments, first, last);
#endif
  rows_portable(arguments, first, last);
}

}  // namespace sparse_detr
