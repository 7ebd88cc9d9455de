"""From a verified ONNX file to a TensorRT or TensorRT-RTX engine. Needs ``onnx`` and the flavour's package, not torch."""
