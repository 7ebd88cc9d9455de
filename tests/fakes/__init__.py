"""Stand-ins for a GPU: CUDA's driver and TensorRT as far as the runner uses them, strict where the real ones are lax.

They show that the runner keeps the rules of both interfaces. They show nothing of a real GPU or of TensorRT's results:
an engine here is an ONNX file that ONNX Runtime runs.
"""
