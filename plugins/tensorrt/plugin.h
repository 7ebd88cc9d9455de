// What all plugins of this library share: identity, cloning, serialization of their attributes, the creator.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>

#include "../kernels/types.h"
#include "fields.h"
#include "report.h"

namespace sparse_detr {

constexpr const char* kPluginVersion = "1";
constexpr const char* kPluginNamespace = "sparse_detr";

// Kind is the derived class. It has `static constexpr const char* kName` and is made from an `Attributes`, which has
// `void read(const Fields&)`, throwing std::invalid_argument, `void write(FieldList&) const` and a `text()`.
// Plugins hold nothing but their attributes, which never change: any number of threads may use one.
template <typename Kind, typename AttributesOf>
class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
 public:
  using Attributes = AttributesOf;

  explicit Plugin(const Attributes& attributes)
      : attributes_(attributes),
        timing_cache_id_(std::string(Kind::kName) + " kernel " SPARSE_DETR_KERNEL_VERSION + attributes.text()) {
    attributes_.write(fields_);
  }
  Plugin(const Plugin&) = delete;  // the fields point into the attributes
  Plugin& operator=(const Plugin&) = delete;

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }
  nvinfer1::IPluginV3* clone() noexcept override {
    return guarded<nvinfer1::IPluginV3*>(Kind::kName, nullptr, [&] { return new Kind(attributes_); });
  }
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }

  const char* getPluginName() const noexcept override { return Kind::kName; }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

  int32_t getNbOutputs() const noexcept override { return 1; }
  const char* getTimingCacheID() noexcept override { return timing_cache_id_.c_str(); }
  const char* getMetadataString() noexcept override { return timing_cache_id_.c_str(); }
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override { return fields_.collection(); }

 protected:
  const Attributes attributes_;

 private:
  const std::string timing_cache_id_;
  FieldList fields_;
};

template <typename Kind>
class Creator : public nvinfer1::IPluginCreatorV3One {
 public:
  Creator() { Kind::Attributes::declare(names_); }

  nvinfer1::IPluginV3* createPlugin(const char* /*layer*/, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase /*phase*/) noexcept override {
    return guarded<nvinfer1::IPluginV3*>(Kind::kName, nullptr, [&] {
      typename Kind::Attributes attributes;
      attributes.read(Fields(fields, names_));
      return new Kind(attributes);
    });
  }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return names_.collection(); }
  const char* getPluginName() const noexcept override { return Kind::kName; }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

 private:
  FieldList names_;
};

}  // namespace sparse_detr
