"""Reading and writing the file formats of animations: one module per format.

`Animation.save` is the public entry point; `kmtalk.animation.formats` lists the formats.
In each module `write_*` writes and `read_*` reads that format.
"""
