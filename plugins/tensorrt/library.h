// What TensorRT's registry looks up in a plugin library; nothing else is exported.
#pragma once

#include <NvInferRuntime.h>

#define SPARSE_DETR_EXPORT extern "C" __attribute__((visibility("default")))

SPARSE_DETR_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
SPARSE_DETR_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
