"""Pictures of animations: mp4 video, contact sheets, comparison videos, plots and the web page.

Drawing with OpenGL happens in a child process (`worker`), which never imports torch; `video` starts it.
"""
