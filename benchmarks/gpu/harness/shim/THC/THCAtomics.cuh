// Stands in for torch's header of this name: only the backward kernels use it, which are never instantiated.
#pragma once
