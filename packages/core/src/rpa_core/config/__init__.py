"""Configuration: from `CONTAINER_*` variables to one frozen value, or to one list of everything that is wrong.

    environ --sources--> texts by variable --models--> ContainerConfig
                 \\___________ problems ___________/ --> ConfigError (exit 78)

States: a `ContainerConfigManager` is either unread or loaded; loading either returns a complete, checked value or
raises with every problem at once. There is no half-valid configuration, and nothing here writes anywhere, so a
crash at any step leaves nothing behind.

Invariants
- The process environment is a parameter. No module here reads `os.environ`; the command line passes it in.
- Order of sources: argument > variable > `*_FILE` > mounted secret > default (some defaults follow the cgroup limits).
  `X` and `X_FILE` together are an error, an empty variable counts as not set.
- A name with our prefix that nobody knows is a problem with a suggestion, never ignored.
- No message carries a value of a secret; problems describe the form of what was got.

This room is below the store: it judges form and never connects. `ConfigurationValidator`, which does connect, lives
in `rpa_core.services` for that reason. `ContainerConfigManager.wait_for_dependencies` and `.setup_health_monitoring`
are promised by the manager's interface but belong to rooms above; they are handed in, or found by name when called.
"""
