#!/bin/bash
# Runs once, on an empty volume: a role and a database of its own for each of the two, closed to the other.
# psql reads the passwords itself: they stand in no argument list and in no log.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\set rpa_password `cat /run/secrets/database_rpa_db_password`
\set survey_hub_password `cat /run/secrets/database_survey_hub_password`
CREATE ROLE rpa LOGIN PASSWORD :'rpa_password';
CREATE ROLE survey_hub LOGIN PASSWORD :'survey_hub_password';
CREATE DATABASE rpa_db OWNER rpa;
CREATE DATABASE survey_hub OWNER survey_hub;
REVOKE ALL ON DATABASE rpa_db FROM PUBLIC;
REVOKE ALL ON DATABASE survey_hub FROM PUBLIC;
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
\connect survey_hub
-- Its one table is made in `public`, which belongs to the superuser.
GRANT CREATE ON SCHEMA public TO survey_hub;
SQL
