"""What happened in a run: append-only, written while it runs, and the only thing that is read afterwards."""
