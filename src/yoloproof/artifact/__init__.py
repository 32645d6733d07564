"""Network → artifact: ONNX, float16, engines, and what an artifact says of itself."""
