"""Formulas run from inside other Python programs.

Entering the enclosure changes a process for good and must happen before it has threads.
A program that imports Repeatr wants neither. So its runs happen in a worker: one process,
started at the first run and kept, which is in the enclosure and forks a child for each.
"""
