"""The command line: thin commands over the rooms below, each imported when it is called.

`main` is the only place where an exception becomes a message on stderr and an exit code, and where the process
environment is read. What comes from records, files and other programs is escaped where a person reads it
(`rpa_core.observability.printable`).
"""
