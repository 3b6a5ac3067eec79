"""Mouths from sound that still arrives: a causal network with bounded look-ahead, and the stream around it."""
