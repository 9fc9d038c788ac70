"""The composition root: from a flow and an environment to a running container. The only room that wires.

Threads of one worker process: the main thread claims, handles and completes; `lease-keeper` renews; `watcher`
listens for new records, samples depths and keeps house; the HTTP surface and the health checks run on their own.
Signals are read by a thread too, so that a busy handler cannot delay the answer to SIGTERM.
"""
