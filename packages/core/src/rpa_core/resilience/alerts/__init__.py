"""Alerts: what a person should know, told to every Alertmanager and to a webhook, also by a process that is ending.

    raise_ -> open --(renewed)--> open --resolve--> ended
                \\--process ends--> open --the next good start, resolve_earlier--> ended
                                       \\--nobody comes back for `ttl_s`--> ended, by its endsAt

Every sink is asked at the same time and within one bounded time. What a sink did not take waits for it in the spool
and is delivered by a courier; before it is tried, it is in the spool already, so that a SIGKILL in between costs
nothing but a repetition. Every message has an id and equal labels each time, so that a repetition changes nothing.

Which alerts are open is kept in the folder `alerts` beside the spools, one file each, not in a spool: the spool of a
worker that died may be adopted by its neighbour before it is back, and it is the worker itself that resolves them.

Errors of alerting are logged; none is raised, and none changes how a process ends.
"""
