"""Pack formats: a stream of bytes <-> a fileset.

`packtypes` says which there are, `unpacking` has `scan` and `unpack`, `packing` has `pack`
and `pack_directory`. A WareID is a function of the manifest alone, never of the bytes.
"""
