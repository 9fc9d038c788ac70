"""rpa's flows as Prefect deployments: started from Prefect's UI, its API or a schedule, run by a worker of a work pool.

Needs the extra `rpa-flows[prefect]`. Every installed flow (entry points `rpa.flows`) has one Prefect flow of the same
name, so that runs of deployments stand beside those that long-lived containers report.

    register  puts the deployments on Prefect's server; again and again, it changes only what differs
    flows     the Prefect flows, by name: what a deployment's entrypoint leads to. The worker needs the package, no code
    run       one run: a child process `rpa run FLOW --until-empty`, its log lines, its end
    child     that process: started, read, asked to drain, and ended if it does not
    leash     makes it drain, too, when the process that started it is killed
    lines     what its lines say

Prefect decides when a run starts and shows how it ended; what was done to which record stands in PostgreSQL, and any
number of runs and containers share the work. A run that is cancelled drains: what is finished is committed, the rest is
given back. One that is killed loses its leases, and the others take its records over.

Settings and secrets of the run are those of the worker's own environment (CONTAINER_*, mounted secrets): nothing of
them is ever sent to the server. Only CONTAINER_PREFECT_* is left out, because Prefect's engine reports this run itself.
"""
