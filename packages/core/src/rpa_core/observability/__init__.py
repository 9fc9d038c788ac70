"""What the outside sees of a running container: log lines and metrics.

Logs: one JSON object a line on stdout (ECS names), at most 8 KiB, with the traceback inside. A record goes

    logger -> bounded queue -> writer thread -> stdout
              full: counted, dropped

so that a stdout nobody reads never stops the work. Invariants: a log call never raises and never blocks on I/O;
a registered secret never reaches the stream, whichever way it came (message, argument, extra, traceback); the
caller's objects are read, never changed. On a crash the queue's rest is lost; a clean exit and an unhandled
exception flush it.

Metrics: `Metrics` holds a registry of its own; there are no global instruments, so two runtimes in one process do
not mix. Label values come from closed sets or from configuration, never from records.
"""
