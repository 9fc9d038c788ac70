"""Where a scenario runs.

protocol   what a driver offers
process    worker processes, the embedded PostgreSQL, the proxy on loopback: no root, no Docker
container  the images of the two-stage build on a Docker Engine
"""
