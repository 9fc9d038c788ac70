"""Scenarios on processes of this machine: workers of this interpreter, the embedded PostgreSQL, the proxy on loopback.

driver    starts and ends a system
worker    a worker as a node: signals, limits, readiness
database  PostgreSQL as a node
dependencies  Prefect and Alertmanager where they are installed
stand_in  another dependency: an HTTP server that answers its health path
small_disk  a bounded disk of one process, in a mount namespace
throttle  a share of a CPU by stopping and continuing
"""
