// Multi-scale deformable attention on the CPU for training: weighted sum of bilinear samples, and its gradients.
//
// value [B, N, M, D], sampling locations [B, Q, M, L, P, 2] (x, y in 0..1), weights [B, Q, M, L, P]; all float32 and
// contiguous. One thread works on one (image, head): the gradient of its values is then its own, without atomics.

#include <ATen/Parallel.h>
#include <torch/extension.h>

#include <cmath>
#include <tuple>
#include <vector>

namespace {

struct Corner {
  int64_t row;    // token, or -1 outside the level
  float share;    // bilinear weight
  float along_x;  // its derivative by x and by y, in pixels of the level
  float along_y;
};

inline void corners_of(float x, float y, int64_t height, int64_t width, int64_t start, Corner* corners) {
  const float column = std::floor(x), row = std::floor(y);
  const float right = x - column, down = y - row;
  for (int index = 0; index < 4; ++index) {
    const bool is_right = index & 1, is_down = index & 2;
    const float across = is_right ? right : 1 - right, along = is_down ? down : 1 - down;
    const float cx = column + is_right, cy = row + is_down;
    // compared as floats: a sample may lie farther out than an integer holds, or be NaN
    const bool inside = cx >= 0 && cx < width && cy >= 0 && cy < height;
    corners[index] = {inside ? start + static_cast<int64_t>(cy) * width + static_cast<int64_t>(cx) : -1, across * along,
                      is_right ? along : -along, is_down ? across : -across};
  }
}

struct Sizes {
  int64_t batch, tokens, heads, channels, queries, levels, points;
};

// Channels is the number of channels where it is known at compile time, else 0.
template <int64_t Channels, typename Visit>
void visit_samples(const Sizes& sizes, const std::vector<int64_t>& shapes, const float* locations, const Visit& visit) {
  at::parallel_for(0, sizes.batch * sizes.heads, 1, [&](int64_t first, int64_t last) {
    for (int64_t pair = first; pair < last; ++pair) {
      const int64_t image = pair / sizes.heads, head = pair % sizes.heads;
      for (int64_t query = 0; query < sizes.queries; ++query) {
        const int64_t place = (image * sizes.queries + query) * sizes.heads + head;
        int64_t start = 0;
        for (int64_t level = 0; level < sizes.levels; ++level) {
          const int64_t height = shapes[2 * level], width = shapes[2 * level + 1];
          for (int64_t point = 0; point < sizes.points; ++point) {
            const int64_t sample = (place * sizes.levels + level) * sizes.points + point;
            Corner corners[4];
            corners_of(locations[2 * sample] * width - 0.5f, locations[2 * sample + 1] * height - 0.5f, height, width,
                       start, corners);
            visit(image, head, place, sample, static_cast<float>(width), static_cast<float>(height), corners);
          }
          start += height * width;
        }
      }
    }
  });
}

template <int64_t Channels>
void forward_into(const Sizes& sizes, const std::vector<int64_t>& shapes, const float* value, const float* locations,
                  const float* weights, float* output) {
  const int64_t channels = Channels ? Channels : sizes.channels;
  visit_samples<Channels>(sizes, shapes, locations, [&](int64_t image, int64_t head, int64_t place, int64_t sample,
                                                        float, float, const Corner* corners) {
    float* sum = output + place * channels;
    for (int index = 0; index < 4; ++index) {
      if (corners[index].row < 0) continue;
      const float* row = value + ((image * sizes.tokens + corners[index].row) * sizes.heads + head) * channels;
      const float factor = weights[sample] * corners[index].share;
      for (int64_t channel = 0; channel < channels; ++channel) sum[channel] += factor * row[channel];
    }
  });
}

template <int64_t Channels>
void backward_into(const Sizes& sizes, const std::vector<int64_t>& shapes, const float* value, const float* locations,
                   const float* weights, const float* gradient, float* value_gradient, float* location_gradient,
                   float* weight_gradient) {
  const int64_t channels = Channels ? Channels : sizes.channels;
  visit_samples<Channels>(sizes, shapes, locations, [&](int64_t image, int64_t head, int64_t place, int64_t sample,
                                                        float width, float height, const Corner* corners) {
    const float* arriving = gradient + place * channels;
    float by_weight = 0, by_x = 0, by_y = 0;
    for (int index = 0; index < 4; ++index) {
      const Corner& corner = corners[index];
      if (corner.row < 0) continue;
      const int64_t offset = ((image * sizes.tokens + corner.row) * sizes.heads + head) * channels;
      const float* row = value + offset;
      float* row_gradient = value_gradient + offset;
      const float factor = weights[sample] * corner.share;
      float product = 0;
      for (int64_t channel = 0; channel < channels; ++channel) {
        product += arriving[channel] * row[channel];
        row_gradient[channel] += factor * arriving[channel];
      }
      by_weight += corner.share * product;
      by_x += corner.along_x * product;
      by_y += corner.along_y * product;
    }
    weight_gradient[sample] = by_weight;
    location_gradient[2 * sample] = weights[sample] * by_x * width;
    location_gradient[2 * sample + 1] = weights[sample] * by_y * height;
  });
}

Sizes checked(const torch::Tensor& value, const std::vector<int64_t>& shapes, const torch::Tensor& locations,
              const torch::Tensor& weights) {
  for (const auto& tensor : {value, locations, weights})
    TORCH_CHECK(tensor.is_contiguous() && tensor.scalar_type() == torch::kFloat && tensor.is_cpu(),
                "value, locations and weights must be contiguous float32 tensors on the CPU");
  TORCH_CHECK(value.dim() == 4 && locations.dim() == 6 && weights.dim() == 5, "wrong number of dimensions");
  const Sizes sizes{value.size(0),     value.size(1),     value.size(2),    value.size(3),
                    locations.size(1), locations.size(3), locations.size(4)};
  TORCH_CHECK(locations.size(0) == sizes.batch && locations.size(2) == sizes.heads && locations.size(5) == 2 &&
                  locations.sizes().slice(0, 5) == weights.sizes(),
              "locations and weights do not fit value");
  int64_t tokens = 0;
  for (size_t level = 0; 2 * level + 1 < shapes.size(); ++level) tokens += shapes[2 * level] * shapes[2 * level + 1];
  TORCH_CHECK(static_cast<int64_t>(shapes.size()) == 2 * sizes.levels && tokens == sizes.tokens,
              "the level shapes do not add up to the tokens of value");
  return sizes;
}

// Calls `call` with the number of channels as a compile-time constant where it is a usual one.
template <typename Call>
void for_channels(int64_t channels, const Call& call) {
  switch (channels) {
    case 16: return call(std::integral_constant<int64_t, 16>());
    case 32: return call(std::integral_constant<int64_t, 32>());
    default: return call(std::integral_constant<int64_t, 0>());
  }
}

torch::Tensor forward(const torch::Tensor& value, const std::vector<int64_t>& shapes, const torch::Tensor& locations,
                      const torch::Tensor& weights) {
  const Sizes sizes = checked(value, shapes, locations, weights);
  auto output = torch::zeros({sizes.batch, sizes.queries, sizes.heads * sizes.channels}, value.options());
  for_channels(sizes.channels, [&](auto channels) {
    forward_into<channels.value>(sizes, shapes, value.const_data_ptr<float>(), locations.const_data_ptr<float>(),
                                 weights.const_data_ptr<float>(), output.mutable_data_ptr<float>());
  });
  return output;
}

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> backward(const torch::Tensor& value,
                                                                 const std::vector<int64_t>& shapes,
                                                                 const torch::Tensor& locations,
                                                                 const torch::Tensor& weights,
                                                                 const torch::Tensor& gradient) {
  const Sizes sizes = checked(value, shapes, locations, weights);
  const auto arriving = gradient.contiguous();
  auto by_value = torch::zeros_like(value), by_location = torch::empty_like(locations),
       by_weight = torch::empty_like(weights);
  for_channels(sizes.channels, [&](auto channels) {
    backward_into<channels.value>(sizes, shapes, value.const_data_ptr<float>(), locations.const_data_ptr<float>(),
                                  weights.const_data_ptr<float>(), arriving.const_data_ptr<float>(),
                                  by_value.mutable_data_ptr<float>(), by_location.mutable_data_ptr<float>(),
                                  by_weight.mutable_data_ptr<float>());
  });
  return {by_value, by_location, by_weight};
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("forward", &forward);
  module.def("backward", &backward);
}
