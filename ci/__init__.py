"""The workspace's own tools, as importable functions: `noxfile.py` and `tasks.py` stay thin."""
