"""The workspace's own tools, standard library only: `noxfile.py` and `tasks.py` stay thin. Their tests: tests/ci."""
