"""Migrations: forward only, once, by whoever comes first; what does not fit is refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from rpa_core.errors import RpaError, SchemaError, StoreRefused
from rpa_core.store.connect import classify, connect
from rpa_core.store.intake import enqueue
from rpa_core.store.migrate import migrate, migrate_package, status
from rpa_testkit.databases import Database, Databases

from .ledger_steps import FLOW, one, records, together

_MAKE = "CREATE TABLE public.made (id integer);"
Package = Callable[..., str]


@pytest.fixture
def empty(databases: Databases) -> Iterator[Database]:
    """A database without any table."""
    with databases.empty() as made:
        yield made


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Makes a package of migrations; called again with the same name it changes the files."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"migrations_{uuid.uuid4().hex}"

    def write(**files: str) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.sql"):
            old.unlink()
        for file, text in files.items():
            (folder / f"{file.removeprefix('m')}.sql").write_text(text)
        (folder / "readme.txt").write_text("not a migration")
        return name

    return write


def _migrate(database: Database, name: str) -> list[str]:
    return migrate_package(database.dsn, package=name, namespace="other")


@pytest.mark.requirement("D4", "R8.2")
def test_an_empty_database_becomes_a_ledger(empty: Database) -> None:
    """Once; a second time there is nothing to do, and the records are still there."""
    applied = migrate(empty.dsn)
    assert applied
    assert applied[0] == "0001_ledger"
    with connect(empty.dsn, autocommit=False) as connection:
        assert enqueue(connection, FLOW, records(3)) == (3, 0)
        connection.commit()
        assert migrate(empty.dsn) == []
        assert one(connection, "SELECT count(*) FROM rpa.record") == 3


@pytest.mark.requirement("D4")
def test_status_tells_what_is_applied(empty: Database) -> None:
    """Every migration of the package is listed, with the time this database got it; looking changes nothing."""
    before = status(empty.dsn)
    assert [entry.applied_at for entry in before] == [None] * len(before)
    with connect(empty.dsn) as connection:
        assert one(connection, "SELECT to_regclass('rpa.migration') IS NULL")
    applied = migrate(empty.dsn)
    after = status(empty.dsn)
    assert [f"{entry.number:04d}_{entry.name}" for entry in after] == applied
    assert all(entry.applied_at is not None for entry in after)


@pytest.mark.requirement("D4")
def test_an_unmigrated_database_is_named_as_such(empty: Database) -> None:
    """Whoever works on it is told to migrate."""
    with connect(empty.dsn) as connection, pytest.raises(psycopg.Error) as error:
        enqueue(connection, FLOW, records(1))
    assert isinstance(classify(error.value), SchemaError)
    assert "rpa db migrate" in str(classify(error.value))


@pytest.mark.requirement("R5.4")
def test_many_at_once(empty: Database, package: Package) -> None:
    """Of six that migrate the same files at the same moment one applies each, and none fails."""
    name = package(m0001_first=_MAKE, m0002_second="INSERT INTO public.made VALUES (1);")
    migrate(empty.dsn)
    applied = together(*[partial(_migrate, empty, name)] * 6)
    assert sorted(entry for entries in applied for entry in entries) == ["0001_first", "0002_second"]
    with connect(empty.dsn) as connection:
        assert one(connection, "SELECT count(*) FROM made") == 1


@pytest.mark.requirement("D4")
def test_new_files_are_applied_in_the_order_of_their_numbers(empty: Database, package: Package) -> None:
    """What is there stays, what is new comes after it."""
    assert _migrate(empty, package(m0001_first=_MAKE)) == ["0001_first"]
    later = {f"m{n:04d}_more": f"INSERT INTO public.made VALUES ({n});" for n in (10, 2, 9)}
    assert _migrate(empty, package(m0001_first=_MAKE, **later)) == ["0002_more", "0009_more", "0010_more"]
    with connect(empty.dsn) as connection:
        assert [row[0] for row in connection.execute("SELECT id FROM made")] == [2, 9, 10]


@pytest.mark.requirement("D4")
def test_an_edited_file_is_refused(empty: Database, package: Package) -> None:
    """A file that was changed after it was applied is named, and nothing else is applied."""
    _migrate(empty, package(m0001_first=_MAKE))
    name = package(m0001_first=_MAKE + " -- changed", m0002_second="DROP TABLE public.made;")
    with pytest.raises(SchemaError, match="0001_first of other was changed"):
        _migrate(empty, name)
    with connect(empty.dsn) as connection:
        assert one(connection, "SELECT count(*) FROM made") == 0


@pytest.mark.requirement("D4")
def test_a_newer_database_is_refused(empty: Database, package: Package) -> None:
    """A version that does not know the database's last migration says so instead of working on it."""
    _migrate(empty, package(m0001_first=_MAKE, m0002_second="SELECT 1;"))
    with pytest.raises(SchemaError, match=r"0002_second of other.*at least as new"):
        _migrate(empty, package(m0001_first=_MAKE))


@pytest.mark.requirement("R8.2")
def test_a_migration_that_fails_leaves_nothing(empty: Database, package: Package) -> None:
    """Its transaction is undone, the ones before it stay, and the next try begins there."""
    broken = package(m0001_first=_MAKE, m0002_second="CREATE TABLE public.half (id integer); SELECT 1 / 0;")
    with pytest.raises(RpaError, match="division by zero"):
        _migrate(empty, broken)
    with connect(empty.dsn) as connection:
        assert one(connection, "SELECT to_regclass('public.half') IS NULL")
    assert _migrate(empty, package(m0001_first=_MAKE, m0002_second="SELECT 1;")) == ["0002_second"]


@pytest.mark.requirement("R1.3", "R2.2")
def test_a_database_that_is_not_there_is_refused(empty: Database) -> None:
    """The answer says what is wrong and is not worth a retry."""
    with pytest.raises(StoreRefused, match="does not exist"):
        migrate(empty.dsn + "_not")


@pytest.mark.requirement("D4")
def test_two_packages_do_not_meet(empty: Database, package: Package) -> None:
    """The same number in another namespace is another migration."""
    assert migrate(empty.dsn)
    assert _migrate(empty, package(m0001_first=_MAKE)) == ["0001_first"]
    assert migrate(empty.dsn) == []
