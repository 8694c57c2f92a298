"""Inputs become a root filesystem here, and what a process left of it becomes outputs.

`placers` and `landing` place a single ware at a path of the host instead.
"""
