"""Text files that users write, in the encodings that editors save them in."""

from __future__ import annotations

import codecs
from pathlib import Path


def read_text_file(path: Path, errors: str = "strict") -> str:
    """Read a text file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Args:
        path: The file.
        errors: What is done with invalid bytes, as `bytes.decode` takes it.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not such text.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return data.decode(encoding, errors)
