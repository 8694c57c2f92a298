"""Inputs become a root filesystem here; and what a process left of it becomes outputs."""
