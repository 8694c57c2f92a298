"""Repeatr: run a process as a pure function of filesets."""
