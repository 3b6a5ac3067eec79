"""Reading and writing the file formats of animations: one module per format.

`Animation.save` is the public entry point; it chooses the format by the end of the file name (`formats.FORMATS`).
In each module `write_*` writes and `read_*` reads that format.
"""
