"""What this machine keeps: unpacked filesets, memos, run records, and the scratch of runs."""
