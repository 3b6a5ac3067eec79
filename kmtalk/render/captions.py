"""Heights in pixels of the captions below pictures."""

COMPARISON_CAPTION, SHEET_CAPTION = 30, 26
