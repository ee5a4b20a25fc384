"""Exports as ONNX graphs, for onnxruntime and sherpa-onnx: docs/pretrained.md."""
