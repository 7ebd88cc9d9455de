// Plugin fields: those that TensorRT hands over, and those that a plugin declares or serializes.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <string>
#include <vector>

namespace sparse_detr {

// Fields that point to integers which live elsewhere. Complete before it is read: any number of threads may then.
class FieldList {
 public:
  FieldList() = default;
  FieldList(const FieldList&) = delete;  // the collection points inside
  FieldList& operator=(const FieldList&) = delete;

  void declare(const char* name) { add(name, nullptr, 0); }
  void add(const char* name, const int64_t* values, size_t count) {
    fields_.emplace_back(name, values, nvinfer1::PluginFieldType::kINT64, static_cast<int32_t>(count));
    collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
  }
  const nvinfer1::PluginFieldCollection* collection() const { return &collection_; }
  bool has(const std::string& name) const {
    for (const nvinfer1::PluginField& field : fields_)
      if (name == field.name) return true;
    return false;
  }

 private:
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

// Fields as received. A name that is not among the declared is refused: an attribute that is mistyped, or of a newer
// version, must not be ignored.
class Fields {
 public:
  Fields(const nvinfer1::PluginFieldCollection* received, const FieldList& declared);

  // The integers of a field, of 32 or 64 bits; empty if it was not given.
  std::vector<int64_t> integers(const char* name) const;

 private:
  const nvinfer1::PluginFieldCollection* received_;
};

}  // namespace sparse_detr
