"""Is this container alive, ready, started; and the one HTTP surface: health, metrics, version, intake.

States of a container, as a probe sees it:

    starting --set_started()--> ready <--> not ready (a required check fails)
        \\                         \\____________________/
         \\____________________________ set_draining() --> draining (never ready again, still alive)

Invariants:
- A probe never runs a check. It reads what a background thread found, so N probes cost nothing, and a database that
  hangs cannot hang a probe. A result that is too old counts as a failure: silence is not health.
- Liveness knows nothing of dependencies; registering a dependency check with scope `live` is refused. A restart
  does not cure a database, and fifty restarts at once make it worse.
- Liveness is the age of the main loop's heartbeat, so a hung loop fails although this surface answers; a busy one
  stays alive as long as something (the lease keeper) vouches for it by calling `heartbeat()`.
- Draining fails readiness at once and liveness never.

The HTTP server has a thread and an event loop of its own, so that it answers while a handler burns CPU. Uploads run
in worker threads and one transaction each: whatever ends an upload before its answer (a crash here, a client that
goes away, a bad line, PostgreSQL restarting) rolls it back, and nothing of it was loaded. A crash after the commit and
before the answer is what `Idempotency-Key` is for: the client sends it again and gets the first answer.
"""
