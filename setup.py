"""Builds the fused CPU kernels for ONNX Runtime where a C++ compiler is at hand; without one the package works still."""

import glob
import sys

from setuptools import Extension, setup

# The library is no Python module: it has no PyInit function, which linkers on Windows insist on, and the flags are
# those of GCC and Clang. Windows therefore builds none and runs the same files on standard operators.
sources = [] if sys.platform == "win32" else sorted(glob.glob("plugins/onnxruntime/*.cpp"))
kernels = Extension(
    "sparse_detr_deploy._ort_ops",
    sources=sources,
    depends=glob.glob("plugins/onnxruntime/*.h"),
    extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"],
    language="c++",
    optional=True,
)
setup(ext_modules=[kernels] if sources else [])
