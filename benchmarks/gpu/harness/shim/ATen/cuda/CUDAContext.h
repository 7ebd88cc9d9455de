// Stands in for torch's header of this name: the launchers take the stream as an argument.
#pragma once

#include <cuda_runtime_api.h>
