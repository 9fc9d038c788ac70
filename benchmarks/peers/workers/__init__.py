"""The worker processes of the peers, each started as `python -m`, each a handler that stores one row per record."""
