"""What is said: WareIDs, formulas, filters, run records and events, in and out of text.

No module in this room reads or writes a file.
"""
