"""The demonstration: a process that loads, moves, swaps and unloads models for ever, real ones or simulated."""

from gpumodels.demo.play import run_demo

__all__ = ["run_demo"]
