"""The stack on Docker Compose: what it needs on this machine, how it is started, looked at and ended.

| module | does |
|---|---|
| `compose` | runs `docker compose` with the files, the project and the variables of an environment |
| `secrets` | makes the passwords, tokens and certificates that are missing |
| `settings` | makes the env files that are missing, and reads them |
| `report` | what runs, in which state, at which address, and why something does not |
| `operate` | up, down, ps, logs, restart, scale, config |
| `shell` | psql in the database's container, a shell in any |

Nothing here keeps state: the engine has it, and the files below docker/secrets and docker/env.
"""
