"""The server: jobs over HTTP, a page to give them, and processes that do them.

`store` keeps the jobs, `worker` is the process that animates, `supervisor` gives jobs to such processes, and `app` is
the HTTP interface.
"""
