#include "fields.h"

#include <cstring>
#include <stdexcept>

namespace sparse_detr {
namespace {

using nvinfer1::PluginFieldType;

// Attributes that an ONNX node carries for the parser itself.
bool belongs_to_parser(const std::string& name) {
  return name == "plugin_namespace" || name == "plugin_version" || name == "tensorrt_plugin_shape_input_indices";
}

}  // namespace

Fields::Fields(const nvinfer1::PluginFieldCollection* received, const FieldList& declared) : received_(received) {
  if (!received) return;
  if (received->nbFields < 0 || (received->nbFields > 0 && !received->fields))
    throw std::invalid_argument("the field collection is broken");
  for (int32_t i = 0; i < received->nbFields; ++i) {
    const char* name = received->fields[i].name;
    if (!name) throw std::invalid_argument("a field has no name");
    if (!declared.has(name) && !belongs_to_parser(name))
      throw std::invalid_argument(std::string("unknown attribute ") + name);
  }
}

std::vector<int64_t> Fields::integers(const char* name) const {
  std::vector<int64_t> values;
  for (int32_t i = 0; received_ && i < received_->nbFields; ++i) {
    const nvinfer1::PluginField& field = received_->fields[i];
    if (std::strcmp(field.name, name) != 0) continue;
    const bool wide = field.type == PluginFieldType::kINT64;
    if (!wide && field.type != PluginFieldType::kINT32)
      throw std::invalid_argument(std::string(name) + " must be integers");
    if (field.length < 0 || (field.length > 0 && !field.data))
      throw std::invalid_argument(std::string(name) + " has no data");
    values.clear();
    for (int32_t k = 0; k < field.length; ++k)
      values.push_back(wide ? static_cast<const int64_t*>(field.data)[k] : static_cast<const int32_t*>(field.data)[k]);
  }
  return values;
}

}  // namespace sparse_detr
