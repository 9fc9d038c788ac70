"""Scenarios on processes of this machine: workers of this interpreter, the embedded PostgreSQL, the proxy on loopback.

driver    starts and ends a system
worker    a worker as a node: signals, limits, readiness
database  PostgreSQL as a node
stand_in  a dependency: an HTTP server that answers its health path
throttle  a share of a CPU by stopping and continuing
"""
