"""Living with failure. Nothing here knows what fails: rooms above say what they do, and carry out what they are told.

    retry      how long to wait, whether to retry at all, how long a thing may take
    breaker    closed, open, half-open: who was found away is left alone until it is time to look
    recovery   the ladder: reconnect, new pools, secrets, pause, alert, end; answers, and never acts
    spool/     what must reach another system later, on the disk, in order
    alerts/    what a person should know, to every sink at once
    disk/      watched, cleaned of what is ours, waited for
    lives      which earlier processes ended without a word

Clock, randomness and waits are passed in. What outlives a process lies in the spool's folder, each file locked by the
one who wrote it: a crash leaves files without an owner, which the next process finds, and nothing else.
"""
