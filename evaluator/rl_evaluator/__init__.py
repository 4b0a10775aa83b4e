"""Evaluates ONNX policies without torch, one episode per seed, in Lambda or on a laptop."""
