"""Runs a scenario: starts its system, gives it work, injects faults by the schedule, waits for the end, looks, judges.

run        the whole of it, in order
workload   producers, paced across the faults
injector   carries events out as leases, in schedule order
sampler    what the run looks like, twice a second; restarts what ended by itself, as a platform would
observe    what became of every record, asked of the database after the drain
"""
