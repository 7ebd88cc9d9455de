# The headers of TensorRT 10 or newer; nothing of it is linked. Looks in TensorRT_INCLUDE_DIR, in TENSORRT_ROOT
# (variable or environment), in the system, and last in the Python package kernel-lens, which carries those of 10.14.
#
# Defines the target TensorRT::Headers.

find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${TENSORRT_ROOT} $ENV{TENSORRT_ROOT}
  PATH_SUFFIXES include include/x86_64-linux-gnu include/aarch64-linux-gnu
  DOC "Folder of NvInferRuntime.h")

if(TensorRT_INCLUDE_DIR AND NOT EXISTS ${TensorRT_INCLUDE_DIR}/NvInferRuntime.h)
  message(FATAL_ERROR "There is no NvInferRuntime.h in TensorRT_INCLUDE_DIR, ${TensorRT_INCLUDE_DIR}.")
endif()

if(NOT TensorRT_INCLUDE_DIR)
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_Interpreter_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c
        "import importlib.util as u; s = u.find_spec('kernel_lens'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE kernel_lens OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(kernel_lens)
      find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h PATHS ${kernel_lens}/include/tensorrt NO_DEFAULT_PATH)
    endif()
  endif()
endif()

if(TensorRT_INCLUDE_DIR AND EXISTS ${TensorRT_INCLUDE_DIR}/NvInferVersion.h)
  file(STRINGS ${TensorRT_INCLUDE_DIR}/NvInferVersion.h lines
    REGEX "#define (NV_TENSORRT|TRT)_(MAJOR|MINOR)(_ENTERPRISE)? [0-9]+")
  foreach(part MAJOR MINOR)
    string(REGEX MATCH "_${part}(_ENTERPRISE)? ([0-9]+)" match "${lines}")
    set(version_${part} ${CMAKE_MATCH_2})
  endforeach()
  set(TensorRT_VERSION ${version_MAJOR}.${version_MINOR})
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRTHeaders
  REQUIRED_VARS TensorRT_INCLUDE_DIR
  VERSION_VAR TensorRT_VERSION
  REASON_FAILURE_MESSAGE "Give the folder of NvInferRuntime.h by -DTensorRT_INCLUDE_DIR=… or TENSORRT_ROOT.")
if(TensorRT_VERSION AND TensorRT_VERSION VERSION_LESS 10.0)
  message(FATAL_ERROR "TensorRT ${TensorRT_VERSION} is too old: the plugins need the headers of 10.0 or newer.")
endif()

if(TensorRTHeaders_FOUND AND NOT TARGET TensorRT::Headers)
  add_library(TensorRT::Headers INTERFACE IMPORTED)
  set_target_properties(TensorRT::Headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIR}")
  target_link_libraries(TensorRT::Headers INTERFACE CUDA::toolkit)
endif()
