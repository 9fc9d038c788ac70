"""Break the system on purpose and prove that nothing was lost.

Rooms, from the ground up:

    waits         the only place that polls or sleeps
    programs      PostgreSQL's programs, and the account they run under
    guardian      ties a server's life to its owners: a FIFO that every owner holds open for writing
    postgres      EmbeddedPostgres: a real, durable server on a loopback port
    databases     a migrated template once per server, a database per test
    armed         checkpoints that kill, stop or block a worker at a named point
    processes     worker processes with logs, signals and a sure end
    isolation     what keeps unit tests from the network and from other processes
    plugin        the pytest plugin: options, markers, fixtures

Crashes: an owner that dies by SIGKILL leaves a server behind for as long as the kernel needs to close its
file descriptors; the guardian then stops the server and removes its data. Nothing is written outside the
temporary directory unless a directory is given.
"""
