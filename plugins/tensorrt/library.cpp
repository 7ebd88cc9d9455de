#include "library.h"

#include "ms_deform_attn_plugin.h"
#include "select_tokens_plugin.h"

// No static registration: the registry that loads the library takes the creators from here, under their own namespace.
nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static sparse_detr::MSDeformAttnCreator ms_deform_attn;
  static sparse_detr::SelectTokensCreator select_tokens;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&ms_deform_attn, &select_tokens};
  count = 2;
  return creators;
}
