// The attention kernel itself, run by fibres on the CPU, against the PyTorch twin.
#include "emulation.h"
// After the emulation.
#include "../kernels/ms_deform_attn.cuh"
#include "check.h"
#include "golden.h"

namespace {

using sparse_detr::AttentionShape;

constexpr size_t kGuard = 64;

struct Tolerance {
  float absolute, relative;
};

template <typename T>
struct Type;
template <>
struct Type<float> {
  static constexpr int kId = SPARSE_DETR_FLOAT32;
  static constexpr Tolerance kTolerance = {5e-5f, 1e-5f};
};
template <>
struct Type<__half> {
  static constexpr int kId = SPARSE_DETR_FLOAT16;
  static constexpr Tolerance kTolerance = {1e-4f, 1e-3f};
};
template <>
struct Type<__nv_bfloat16> {
  static constexpr int kId = SPARSE_DETR_BFLOAT16;
  static constexpr Tolerance kTolerance = {1e-4f, 8e-3f};
};

template <typename T>
SparseDetrMSDeformAttn arguments_of(const golden::Case& c) {
  SparseDetrMSDeformAttn a{};
  const golden::Array &value = c.at("value"), &reference = c.at("reference_points"),
                      &offsets = c.at("sampling_offsets");
  a.value = value.bytes.data();
  a.spatial_shapes = c.at("spatial_shapes").data<int64_t>();
  a.reference_points = reference.bytes.data();
  a.sampling_offsets = offsets.bytes.data();
  a.attention_logits = c.at("attention_logits").bytes.data();
  a.batch = value.dimension(0);
  a.tokens = value.dimension(1);
  a.heads = value.dimension(2);
  a.channels = value.dimension(3);
  a.queries = offsets.dimension(1);
  a.levels = offsets.dimension(3);
  a.points = offsets.dimension(4);
  a.reference_batch = reference.dimension(0);
  a.reference_levels = reference.dimension(2);
  a.reference_size = reference.dimension(3);
  a.type = Type<T>::kId;
  a.reference_type = reference.type == "float32" ? SPARSE_DETR_FLOAT32 : Type<T>::kId;
  return a;
}

template <typename T, int Lanes, int Split>
void run(const SparseDetrMSDeformAttn& a, emulation::Order order) {
  using Shape = AttentionShape<T, Lanes, Split>;
  const dim3 grid(static_cast<unsigned>((a.queries + Shape::kTeams - 1) / Shape::kTeams),
                  static_cast<unsigned>(a.heads), static_cast<unsigned>(a.batch));
  const int64_t values = static_cast<int64_t>(a.batch) * a.tokens * a.heads * a.channels;
  emulation::allow_reads(a.value, static_cast<size_t>(values) * sizeof(T));
  emulation::launch(grid, Shape::kThreads, order, [&] { sparse_detr::ms_deform_attn_kernel<T, Lanes, Split>(a); });
  CHECK_EQUAL(emulation::stray_reads, 0);
  emulation::stray_reads = 0;
}

// Every element written, none beyond, all near the expected.
template <typename T>
void compare(const std::vector<T>& output, const golden::Array& expected) {
  const size_t size = static_cast<size_t>(expected.size());
  float worst = 0.0f;
  for (size_t i = 0; i < size; ++i) {
    const float wanted = expected.data<float>()[i], got = sparse_detr::to_float(output[i]);
    const float allowed = Type<T>::kTolerance.absolute + Type<T>::kTolerance.relative * std::fabs(wanted);
    const float error = std::fabs(got - wanted) / allowed;
    worst = error <= worst ? worst : error;  // NaN stays
  }
  CHECK(worst <= 1.0f);
  if (!(worst <= 1.0f)) std::cerr << "  worst error is " << worst << " of what is allowed\n";
  for (size_t i = size; i < output.size(); ++i) CHECK(std::isnan(sparse_detr::to_float(output[i])));
}

template <typename T, int Lanes, int Split>
void check_case(const golden::Case& c, emulation::Order order, bool shapes_on_host) {
  SparseDetrMSDeformAttn a = arguments_of<T>(c);
  if (shapes_on_host) {
    for (int i = 0; i < 2 * a.levels; ++i) a.level_shapes[i] = static_cast<int32_t>(a.spatial_shapes[i]);
    a.spatial_shapes = nullptr;
  }
  std::vector<T> output(static_cast<size_t>(c.at("output").size()) + kGuard, T(NAN));
  a.output = output.data();
  run<T, Lanes, Split>(a, order);
  compare(output, c.at("output"));
}

template <typename T, int Lanes>
void check_lanes(const golden::Case& c) {
  constexpr int kSplit = sparse_detr::kSharedOut<Lanes>;
  check_case<T, Lanes, 1>(c, emulation::Order::kBackward, true);
  check_case<T, Lanes, 1>(c, emulation::Order::kForward, false);
  check_case<T, Lanes, kSplit>(c, emulation::Order::kForward, true);
  check_case<T, Lanes, kSplit>(c, emulation::Order::kBackward, false);
}

template <typename T>
void check_type(const golden::Case& c) {
  sparse_detr::with_lanes<T>(c.at("value").dimension(3),
                             [&](auto lanes) { check_lanes<T, decltype(lanes)::value>(c); });
}

// Shapes that do not fit the value: NaN everywhere, nothing read outside.
void check_wrong_shapes(const golden::Case& c) {
  SparseDetrMSDeformAttn a = arguments_of<float>(c);
  std::vector<int64_t> shapes(a.spatial_shapes, a.spatial_shapes + 2 * a.levels);
  a.spatial_shapes = shapes.data();
  const int64_t height = shapes[0], width = shapes[1], tokens = a.tokens, others = tokens - height * width;
  struct Wrong {
    int64_t height, width, tokens;
  };
  // of the last four the sizes add up to the tokens, with signs that cancel or beyond what 64 bits hold
  const int64_t large = int64_t{1} << 32;
  const Wrong all[] = {{0, width, tokens}, {-3, width, tokens}, {height + 1, width, tokens}, {large << 8, width, tokens},
                       {0, width, others}, {height, 0, others}, {-height, -width, tokens},   {large, large, others}};
  for (const Wrong& wrong : all) {
    shapes[0] = wrong.height;
    shapes[1] = wrong.width;
    a.tokens = static_cast<int32_t>(wrong.tokens);
    std::vector<float> output(static_cast<size_t>(c.at("output").size()), 0.0f);
    a.output = output.data();
    run<float, 8, 1>(a, emulation::Order::kForward);
    for (float x : output) CHECK(std::isnan(x));
  }
}

void check_level_of() {
  for (int points = 1; points <= sparse_detr::kMaxPoints; ++points)
    for (int sample = 0; sample < 64; ++sample)
      CHECK_EQUAL(sparse_detr::level_of(sample, sparse_detr::point_reciprocal(points)), sample / points);
}

// Samples that are not a number or endlessly far count nothing and name tokens inside.
void check_far_samples() {
  const sparse_detr::Level level = {3.0f, 5.0f, 5, 7};
  std::vector<float2> places = {make_float2(5.0f, 1.0f), make_float2(1.0f, 3.0f)};
  for (float far : {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, -1.0f})
    for (float2 place : {make_float2(far, 1.0f), make_float2(1.0f, far)}) places.push_back(place);
  for (float2 place : places) {
    const sparse_detr::Corners corners = sparse_detr::find_corners(level, {0.0f, 0.0f, 1.0f, 1.0f}, place, 1.0f);
    const float weights[4] = {corners.weight.x, corners.weight.y, corners.weight.z, corners.weight.w};
    const int tokens[4] = {corners.token.x, corners.token.y, corners.token.z, corners.token.w};
    for (int i = 0; i < 4; ++i) {
      CHECK_EQUAL(weights[i], 0.0f);
      CHECK(tokens[i] >= 7 && tokens[i] < 7 + 15);
    }
  }
}

}  // namespace

int main(int count, char** values) {
  if (count != 2) return std::cerr << "usage: test_ms_deform_attn GOLDEN\n", 2;
  const std::vector<golden::Case> cases = golden::read(values[1]);
  for (const golden::Case& c : cases) {
    const int before = check::failures();
    const std::string& type = c.at("value").type;
    if (type == "float32") check_type<float>(c);
    if (type == "float16") check_type<__half>(c);
    if (type == "bfloat16") check_type<__nv_bfloat16>(c);
    if (check::failures() > before) std::cerr << "  in case " << &c - cases.data() << ", " << type << "\n";
  }
  check_wrong_shapes(cases[3]);
  check_level_of();
  check_far_samples();
  return check::result("ms_deform_attn", static_cast<int>(cases.size()));
}
