"""Evaluates policies without torch: ONNX in, one episode per seed, returns out. Runs in Lambda and
on a laptop.
"""
