"""What a container needs from outside: probing it, waiting for it, saying what is wrong with it.

    probe -> None (it answers) | Diagnosis (what was seen, what to do, whether waiting can help)

A wait has three ends: the dependency answers; the diagnosis is final (wrong password, no such database, a
certificate nobody trusts) and waiting would only delay the message; the deadline or the stop event comes first.
Between attempts it pauses with full jitter, so that workers that lost the database together do not come back
together. Every attempt is logged with what it waits for, since when, what was seen and when it tries again.

Nothing is kept open: each probe connects and disconnects, so a crash during a wait leaves nothing behind, and a
dependency that returns is simply found answering by the next probe; no restart is needed.

`ConfigurationValidator` is here and not in `config`, because it connects: `config` lies below the store.
"""
