"""The base and service images where no container registry can be reached, made from Debian and Python packages.

Each has the official image's name and keeps its contract as far as this repository's Dockerfiles and compose files use
it (docker/bootstrap/README.md says what that is). An image that came from a registry is never replaced; one that was
made here carries a key of its definition as a label and is made again when that definition changes, or with --force,
which also takes the newest packages.

    images (what there is) -> decide (what is missing, and why) -> make (mmdebstrap, then one buildx bake)

`secrets` is how a machine's own certificates and package indexes reach a build without staying in an image.
"""
