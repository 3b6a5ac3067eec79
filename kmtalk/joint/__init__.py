"""Speech and face made together: a joint flow-matching model of two streams, a mel spectrogram and facial motion."""
