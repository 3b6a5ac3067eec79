"""Speech synthesis with exact phone times."""
