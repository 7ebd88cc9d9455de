// The selection kernel itself, run by fibres on the CPU, against the PyTorch twin.
#include "emulation.h"
// After the emulation.
#include "../kernels/select_tokens.cuh"
#include "check.h"
#include "golden.h"

namespace {

constexpr int64_t kPoison = -77;

template <typename T, int Cached>
void check_cached(const golden::Case& c, int type, emulation::Order order) {
  const golden::Array &scores = c.at("scores"), &num_keep = c.at("num_keep"), &expected = c.at("indices");
  SparseDetrSelectTokens a{};
  a.scores = scores.bytes.data();
  a.num_keep = num_keep.data<int64_t>();
  a.batch = scores.dimension(0);
  a.tokens = scores.dimension(1);
  a.width = expected.dimension(1);
  a.counts = num_keep.dimension(0);
  a.type = type;
  if (a.counts == 1) a.num_keep = nullptr;  // the width says it
  std::vector<int64_t> indices(static_cast<size_t>(expected.size()) + 64, kPoison);
  a.indices = indices.data();
  emulation::launch(dim3(static_cast<unsigned>(a.batch)), sparse_detr::kSelectThreads, order,
                    [&] { sparse_detr::select_tokens_kernel<T, Cached>(a); });
  CHECK(std::equal(expected.data<int64_t>(), expected.data<int64_t>() + expected.size(), indices.begin()));
  for (size_t i = static_cast<size_t>(expected.size()); i < indices.size(); ++i) CHECK_EQUAL(indices[i], kPoison);
}

// The kernel that the launch would choose, and the one without a cache.
template <typename T>
void check_type(const golden::Case& c, int type) {
  sparse_detr::with_cache(c.at("scores").dimension(1), [&](auto cached) {
    check_cached<T, decltype(cached)::value>(c, type, emulation::Order::kForward);
  });
  check_cached<T, 0>(c, type, emulation::Order::kBackward);
}

// Counts outside 1..min(tokens, width) are taken as the nearest inside: nothing is written elsewhere.
void check_wrong_counts() {
  const std::vector<float> scores = {1.0f, 3.0f, 2.0f};
  for (auto [count, expected] :
       {std::pair<int64_t, std::vector<int64_t>>{0, {1, 1}}, {-5, {1, 1}}, {9, {1, 2}}, {int64_t{1} << 40, {1, 2}}}) {
    std::vector<int64_t> indices(2, kPoison);
    SparseDetrSelectTokens a{scores.data(), &count, indices.data(), 1, 3, 2, 1, SPARSE_DETR_FLOAT32};
    emulation::launch(dim3(1), sparse_detr::kSelectThreads, emulation::Order::kForward,
                      [&] { sparse_detr::select_tokens_kernel<float, 8>(a); });
    CHECK(indices == expected);
  }
}

void check_keys() {
  using sparse_detr::score_key;
  const float rising[] = {-INFINITY, -1e30f, -1.0f, -1e-40f, 0.0f, 1e-40f, 1.0f, 1e30f, INFINITY, NAN};
  for (size_t i = 0; i + 1 < std::size(rising); ++i) CHECK(score_key(rising[i]) < score_key(rising[i + 1]));
  CHECK(score_key(-INFINITY) > sparse_detr::kNoKey);
  CHECK_EQUAL(score_key(-0.0f), score_key(0.0f));
  CHECK_EQUAL(score_key(-NAN), score_key(NAN));
  // every float16 and bfloat16, in order
  uint32_t last_half = 0, last_bfloat = 0;
  for (int step = -0x7c00; step <= 0x7c00; ++step) {
    const __half value = sparse_detr::bit_cast<__half>(static_cast<uint16_t>(step < 0 ? 0x8000 - step : step));
    CHECK(step == -0x7c00 || score_key(value) > last_half);
    last_half = score_key(value);
  }
  for (int step = -0x7f80; step <= 0x7f80; ++step) {
    const auto value = sparse_detr::bit_cast<__nv_bfloat16>(static_cast<uint16_t>(step < 0 ? 0x8000 - step : step));
    CHECK(step == -0x7f80 || score_key(value) > last_bfloat);
    last_bfloat = score_key(value);
  }
  CHECK(score_key(__float2half(NAN)) > last_half && score_key(__float2bfloat16(NAN)) > last_bfloat);
}

}  // namespace

int main(int count, char** values) {
  if (count != 2) return std::cerr << "usage: test_select_tokens GOLDEN\n", 2;
  const std::vector<golden::Case> cases = golden::read(values[1]);
  for (const golden::Case& c : cases) {
    const int before = check::failures();
    const std::string& type = c.at("scores").type;
    if (type == "float32") check_type<float>(c, SPARSE_DETR_FLOAT32);
    if (type == "float16") check_type<__half>(c, SPARSE_DETR_FLOAT16);
    if (type == "bfloat16") check_type<__nv_bfloat16>(c, SPARSE_DETR_BFLOAT16);
    if (check::failures() > before) std::cerr << "  in case " << &c - cases.data() << ", " << type << "\n";
  }
  check_wrong_counts();
  check_keys();
  return check::result("select_tokens", static_cast<int>(cases.size()));
}
