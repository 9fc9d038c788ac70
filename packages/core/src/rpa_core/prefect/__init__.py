"""Prefect is told, never asked: what a container's life was, over its REST API, through the spool.

One life of a container is one flow run. Everything that is told is an entry of the spool (kind `prefect`, stream = the
local run), made once, with every id in it that makes a second delivery change nothing:

    begin -> logs, progress ... -> summary -> end       entries of one run, delivered strictly in this order
      |                                      ^
      '-- the life ended without a word -----'          CRASHED, put by the next life that adopts the spool's file

    flow run   (flow, idempotency_key "<flow>:<local run>"): the server keeps one, however often it is asked
    state      looked at first: a run that has ended stays as it is; each state carries a transition id of its own
    event      an id of its own; the server drops one that it has
    artifact   looked for first, by key and run
    log line   has no id on the server. Timestamps of one run are strictly increasing, by a microsecond if need be;
               after an answer that did not come, lines that are there already are left out. What remains is a server
               that takes a request later than it is asked for it again: then lines appear twice

What Prefect cannot be told: when a state began. It stamps states with the time they reach it, so that a run reported
late shows the time of the report; the true times are the run's labels `started_at` and `ended_at`, the timestamps of
its log lines and the times of its events.

On a crash: what was put is on the disk and is delivered by the next life; log lines of the last two seconds that were
not put are lost (they are on stdout); a run that was begun and not ended is marked in the spool's notes, with which the
adopter ends it. A spool in memory dies with its process: its run stays RUNNING until somebody looks after it, by hand
or by an automation on heartbeats that do not come. A heartbeat is sent live or not at all: a stale one would arm such
an automation.

Whoever works puts and goes on: no call from here waits for Prefect, or raises because of it.
"""
