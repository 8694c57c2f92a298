"""Linux itself: system calls, capabilities, id maps and the namespaces Repeatr works in.

Thin typed wrappers through ctypes; nothing here knows what a formula is.
"""
