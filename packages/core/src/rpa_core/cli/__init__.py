"""The command line: thin commands over the rooms below, each imported when it is called.

`main` is the only place where an `RpaError` becomes a message on stderr and an exit code, and where the process
environment is read. Every other exception is a defect and keeps its traceback (exit 1 by the interpreter).
"""
