"""From an SB3 model to one ONNX file, written node by node: no tracing, a few milliseconds, the
same bytes every time.
"""
