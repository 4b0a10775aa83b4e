"""Exports an SB3 model to one ONNX file.

The graph is written node by node, without tracing. This takes a few milliseconds and gives the same
bytes every time.
"""
