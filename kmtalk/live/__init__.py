"""Faces in real time: poses are sent to other programs at the moment they are due."""
