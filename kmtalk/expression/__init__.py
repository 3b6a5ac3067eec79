"""What moves above the mouth: head, gaze, blinks, brows and emotion. None of it changes a lip contact."""
