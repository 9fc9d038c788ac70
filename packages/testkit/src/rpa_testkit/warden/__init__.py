"""Takes faults back and clears up when nobody else can: a process that outlives the tester, however that one ends.

    mark        how the things of a run are recognised
    undo        what takes a fault back, as plain data
    client      Warden: the tester's side
    __main__    the process: `python -m rpa_testkit.warden FOLDER`
    server      sessions, leases, and what follows their end
    execution   carries an undo out
    reaper      looks for what a run has left and removes it, until nothing is found
    processes   processes that carry the mark, safe against reused pids
    containers  containers and networks that carry the label
    servers     embedded PostgreSQL servers of a run, whose guardian is let do it first

A session is a connection to its Unix socket. The kernel closes it when the tester dies; where a child has inherited the
descriptor, the tester's pidfd tells. Then the session's undos are carried out and its runs are reaped. Any number of
processes may share one warden; it ends itself with its last session. It ignores SIGINT and SIGHUP, stands in a session
of its own, and carries no mark; SIGTERM ends it as if all testers had died.
"""
