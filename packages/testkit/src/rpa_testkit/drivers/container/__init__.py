"""Scenarios on a Docker Engine: the images as they are built, hardened as in production, and the proxy on every edge.

    driver    starts a system; where that fails half-way, what was made is removed
    system    a started topology, and its end
    builder   creates a topology's containers
    recipes   what each container is created with
    engine    the Engine's API: everything made carries the run's label
    handle    one container, through its whole life
    node      a container as a node of a topology
    postgres  PostgreSQL as a node
    limits    CPU, memory and descriptors of a running container
    space     the bounded space that a container writes to
    faketime  the clock, where the image has libfaketime
    address   how a worker reaches what it needs: through its own edges

What outlives a container's stop: its name, its published ports, its output, the bounds set with `update`. What does
not: its address in the network (the proxy asks for the name anew), its tmpfs, the limits of its processes. PostgreSQL's
data lie on a tmpfs that the proxy's container keeps mounted, so that they outlive a crash and a full disk is real.
"""
