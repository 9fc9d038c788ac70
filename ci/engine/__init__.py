"""A Docker Engine on a bare Debian machine: what a self-hosted runner or a fresh virtual machine lacks.

Debian 12 has an engine that is too old (20.10; health checks with a start interval need 25), and the next release's
packages cannot be installed over it without its C library. But its engine is made of Go programs that run on the older
library: they are downloaded from the machine's own mirror through a private apt configuration, which checks the
signatures as ever and knows nothing of what is installed, and unpacked into a folder of their own. runc and tini, which
do want the newer library, come from the machine's own release.

    sources -> packages -> machine (what is there) -> decide (what is to be done) -> start, stop, status

Nothing is done twice: an engine that answers is left alone, whoever started it, and only one that was started here is
ever stopped. Standard library only, because this runs before anything else is installed.
"""
