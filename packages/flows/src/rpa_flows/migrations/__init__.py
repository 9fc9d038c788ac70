"""The schema of survey_hub, as numbered plain SQL files for `rpa_core.store.migrate.migrate_package`."""
