// Stands in for the expressions that TensorRT's builder hands to getOutputShapes.
#pragma once

#include <NvInferRuntime.h>

#include <deque>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace mock {

constexpr int64_t kUnknown = -1;

// A constant, or a name that only the run resolves.
class Expression final : public nvinfer1::IDimensionExpr, nvinfer1::apiv::VDimensionExpr {
 public:
  Expression(int64_t value, std::string name) : value_(value), name_(std::move(name)) { mImpl = this; }
  ~Expression() noexcept override = default;
  const std::string& name() const { return name_; }

 private:
  bool isConstant() const override { return name_.empty(); }
  int64_t getConstantValue() const override { return value_; }
  bool isSizeTensor() const override { return false; }

  int64_t value_;
  std::string name_;
};

class Builder final : public nvinfer1::IExprBuilder, nvinfer1::apiv::VExprBuilder {
 public:
  Builder() { mImpl = this; }
  ~Builder() noexcept override = default;

  const Expression* named(const std::string& name) { return &expressions_.emplace_back(kUnknown, name); }
  const Expression* number(int64_t value) { return &expressions_.emplace_back(value, ""); }

  // Dimensions; those that are unknown get the names `prefix`0, `prefix`1, …
  nvinfer1::DimsExprs dims(const std::string& prefix, std::initializer_list<int64_t> sizes) {
    nvinfer1::DimsExprs result{};
    for (int64_t size : sizes) {
      const int32_t axis = result.nbDims++;
      result.d[axis] = size == kUnknown ? named(prefix + std::to_string(axis)) : number(size);
    }
    return result;
  }

 private:
  const nvinfer1::IDimensionExpr* constant(int64_t value) override { return number(value); }
  const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation, const nvinfer1::IDimensionExpr&,
                                            const nvinfer1::IDimensionExpr&) override {
    throw std::logic_error("no plugin of ours computes with dimensions");
  }
  const nvinfer1::IDimensionExpr* declareSizeTensor(int32_t, const nvinfer1::IDimensionExpr&,
                                                    const nvinfer1::IDimensionExpr&) override {
    throw std::logic_error("no plugin of ours has size tensors");
  }

  std::deque<Expression> expressions_;
};

// "7" for a constant, else its name.
inline std::string text(const nvinfer1::IDimensionExpr* expression) {
  return expression->isConstant() ? std::to_string(expression->getConstantValue())
                                  : static_cast<const Expression*>(expression)->name();
}

inline std::string text(const nvinfer1::DimsExprs& dims) {
  std::string result;
  for (int32_t i = 0; i < dims.nbDims; ++i) result += (i ? "," : "") + text(dims.d[i]);
  return result;
}

}  // namespace mock
