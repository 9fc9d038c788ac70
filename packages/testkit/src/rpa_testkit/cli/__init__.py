"""The `rpa-testkit` command."""
