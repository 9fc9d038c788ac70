"""Random edits of a copy of the workspace. Each takes three numbers, and says whether there was anything to do."""

# Paths are plain texts where they are many.
# ruff: noqa: PTH113, PTH114, PTH123

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.ci.images_texts import IMPORTS, NEW_MODULES

CORE, FLOWS = "packages/core/src", "packages/flows/src"
BASE = "python:3.13-slim-trixie"
_ODD_NAMES = ("réponses.toml", "a b.toml", "a\nb.toml", "数据.toml", "'q\"$x.toml", "-x.toml", ".hidden.toml", "x.TOML")
_JUNK = ("__pycache__/load.cpython-313.pyc", "load.py~", ".load.py.swp", ".#load.py", "stale.pyc")


@dataclass
class Copy:
    """The copy, what it was at first, and what is not in its files."""

    root: Path
    original: dict[str, bytes]
    base_ids: dict[str, str] = field(default_factory=lambda: {BASE: "sha256:aa"})

    def files(self, *folders: str, suffix: str = "") -> list[str]:
        """Paths of regular files and links, sorted."""
        found = list[str]()
        for folder in folders:
            for parent, _, files in os.walk(f"{self.root}/{folder}"):
                found += [f"{parent}/{name}" for name in files if name.endswith(suffix)]
        return sorted(found)

    def pick(self, number: int, *folders: str, suffix: str = "") -> Path | None:
        """Some file there; the same number, the same file."""
        found = [path for path in self.files(*folders, suffix=suffix) if os.path.isfile(path)]
        return Path(found[number % len(found)]) if found else None

    def folders(self) -> list[Path]:
        """The folders of packages below the sources."""
        walked = [
            (parent, name)
            for top in (FLOWS, CORE)
            for parent, names, _ in os.walk(f"{self.root}/{top}")
            for name in names
        ]
        return sorted(Path(parent, name) for parent, name in walked if not os.path.islink(f"{parent}/{name}"))


Mutation = Callable[[Copy, int, int], bool]


def _source(copy: Copy, number: int) -> Path | None:
    """Rather one of the flows', whose closures are what is hard."""
    return copy.pick(number // 4, CORE if number % 4 == 0 else FLOWS)


def _rewrite(path: Path | None, change: Callable[[bytes], bytes], *, keep_time: bool = False) -> bool:
    if path is None:
        return False
    before, status = path.read_bytes(), path.stat()
    after = change(before)
    path.write_bytes(after)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return after != before


def _other_letter(data: bytes, number: int) -> bytes:
    """Another letter in the first docstring, or comment; as long as before."""
    match = re.search(rb'(?:"""|# |-- )([A-Za-z])', data) or re.search(rb"()([A-Za-z])", data)
    if match is None:
        return data
    at = match.end() - 1
    return data[:at] + bytes([97 + (data[at] - 97 + 1 + number % 25) % 26]) + data[at + 1 :]


def edit(copy: Copy, a: int, b: int) -> bool:
    """A byte more."""
    return _rewrite(_source(copy, a), lambda data: data + b"\n# %d\n" % (b % 3))


def edit_same_size_and_time(copy: Copy, a: int, b: int) -> bool:
    """What size and mtime do not show."""
    return _rewrite(_source(copy, a), lambda data: _other_letter(data, b), keep_time=True)


def put_back(copy: Copy, a: int, b: int) -> bool:
    """A -> B -> A, and a deleted file comes back."""
    changed = [name for name, data in copy.original.items() if bytes_of(f"{copy.root}/{name}") != data]
    if not changed:
        return False
    path = copy.root / changed[a % len(changed)]
    if path.is_dir() or any(parent.is_file() or parent.is_symlink() for parent in path.parents):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(copy.original[changed[a % len(changed)]])
    return True


def bytes_of(path: str) -> bytes | None:
    """None where there is no file."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def touch(copy: Copy, a: int, b: int) -> bool:
    """Times alone, in both directions: clocks go backwards as well."""
    if path := _source(copy, a):
        os.utime(path, ns=(0, (b % 5) * 10**18))
    return path is not None


def edit_with_old_clock(copy: Copy, a: int, b: int) -> bool:
    """An edit by a machine whose clock is behind."""
    path = _source(copy, a)
    done = _rewrite(path, lambda data: _other_letter(data, b))
    if path:
        os.utime(path, ns=(10**9, 10**9))
    return done


def rename(copy: Copy, a: int, b: int) -> bool:
    """A file, to another name, another case, or beside another file."""
    path = _source(copy, a)
    if path is None:
        return False
    names = (f"x_{path.name}", path.name.swapcase(), f"{path.stem}{path.suffix}.bak", path.name.title())
    target = path.with_name(names[b % len(names)])
    return not os.path.lexists(target) and bool(path.rename(target))


def rename_folder(copy: Copy, a: int, b: int) -> bool:
    """The leaves stay what they are."""
    folders = copy.folders()
    if not folders:
        return False
    path = folders[a % len(folders)]
    target = path.with_name((f"{path.name}2", path.name.title(), "colours")[b % 3])
    return not os.path.lexists(target) and bool(path.rename(target))


def rename_folder_back(copy: Copy, a: int, b: int) -> bool:
    """Undo one of those."""
    for path in copy.folders():
        target = path.with_name(path.name.removesuffix("2").lower())
        if target != path and not os.path.lexists(target):
            path.rename(target)
            return True
    return False


def move(copy: Copy, a: int, b: int) -> bool:
    """From one package to another."""
    path, folders = _source(copy, a), copy.folders()
    if path is None or not folders or os.path.lexists(target := folders[b % len(folders)] / path.name):
        return False
    path.rename(target)
    return True


def delete(copy: Copy, a: int, b: int) -> bool:
    """A file is gone."""
    path = _source(copy, a)
    if path:
        path.unlink()
    return path is not None


def link_file(copy: Copy, a: int, b: int) -> bool:
    """A file becomes a link to another one, an existing link leads elsewhere, or nowhere."""
    path, other = _source(copy, a), _source(copy, b)
    links = [Path(one) for one in copy.files(FLOWS, CORE) if os.path.islink(one)]
    if links and b % 2:
        path = links[a % len(links)]
    if path is None or other is None or path == other or _top(copy, path) != _top(copy, other):
        return False
    path.unlink()
    target = os.path.relpath(other, path.parent)
    path.symlink_to(("gone", "/etc/hostname", "../" * 5 + "README.md")[b % 3] if b % 11 == 0 else target)
    return True


def relink(copy: Copy, a: int, b: int) -> bool:
    """Nothing but where a link leads: both files are in the image anyway."""
    path = copy.root / CORE / "rpa_core/linked"
    other = copy.pick(a, CORE)
    if other is None or not path.parent.is_dir() or path.is_dir():
        return False
    path.unlink(missing_ok=True)
    path.symlink_to(os.path.relpath(other, path.parent))
    return True


def link_folder(copy: Copy, a: int, b: int) -> bool:
    """Another name for a package, also for one around it."""
    folders = [path for path in copy.folders() if _top(copy, path) == FLOWS]
    if not folders:
        return False
    path = folders[a % len(folders)].with_name(("alias", "colours", "summary", "data")[b % 4])
    if path.is_symlink():
        path.unlink()
    if os.path.lexists(path):
        return False
    path.symlink_to(os.path.relpath(folders[b % len(folders)], path.parent))
    return True


def _top(copy: Copy, path: Path) -> str:
    return FLOWS if path.is_relative_to(copy.root / FLOWS) else CORE


def mode(copy: Copy, a: int, b: int) -> bool:
    """Executable or not; the other bits are nobody's business."""
    if path := _source(copy, a):
        path.chmod((0o644, 0o755, 0o600, 0o664, 0o700, 0o640)[b % 6])
    return path is not None


def new_module(copy: Copy, a: int, b: int) -> bool:
    """It takes the place of a third-party or a missing one, makes a package of a module, or nobody wants it."""
    return _create(copy.root / FLOWS / NEW_MODULES[a % len(NEW_MODULES)], f"# {b % 4}\n")


def _create(path: Path, text: str) -> bool:
    if any(parent.is_file() or parent.is_symlink() for parent in path.parents) or os.path.lexists(path):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def init(copy: Copy, a: int, b: int) -> bool:
    """An __init__.py comes or goes."""
    folders = copy.folders()
    if not folders:
        return False
    path = folders[a % len(folders)] / "__init__.py"
    if path.is_file():
        path.unlink()
        return True
    return _create(path, ("", '__all__ = ["deep", "tally"]\n', "__all__ = sorted(globals())\n")[b % 3])


def imports(copy: Copy, a: int, b: int) -> bool:
    """Another import, of every kind."""
    path = copy.pick(a, FLOWS, suffix=".py")
    return _rewrite(path, lambda data: data + b"\n" + IMPORTS[b % len(IMPORTS)].encode() + b"\n")


def exports(copy: Copy, a: int, b: int) -> bool:
    """A star import of a package that says which modules it brings."""
    package = ("codebook", "summary")[a % 2]
    source = copy.root / FLOWS / "rpa_flows"
    names = ('["scoring", "charts"]', '["memo", "read"]', "[*globals()]")[b % 3]
    done = [
        # A default binds the loop's value; mypy infers no type for such a lambda.
        path.is_file() and _rewrite(path, lambda data, text=text: data + text.encode())  # type: ignore[misc]
        for path, text in (
            (source / package / "__init__.py", f"\n__all__ = {names}\n"),
            (source / f"rpa{b % 3 + 1}/flow.py", f"\nfrom rpa_flows.{package} import *\n"),
        )
    ]
    return any(done)


def data(copy: Copy, a: int, b: int) -> bool:
    """A data file, whatever it is called."""
    folder = ("rpa_flows/data", "rpa_flows/migrations", "rpa_flows/summary", "rpa_flows/data/deep")[a % 4]
    name = (*_ODD_NAMES, "0002_more.sql", "page.css")[b % (len(_ODD_NAMES) + 2)]
    return _create(copy.root / FLOWS / folder / name, "x = 1\n")


def junk(copy: Copy, a: int, b: int) -> bool:
    """What tools and editors leave."""
    folders = copy.folders()
    return bool(folders) and _create(folders[a % len(folders)] / _JUNK[b % len(_JUNK)], f"junk {a}")


def dockerfile(copy: Copy, a: int, b: int) -> bool:
    """The recipe."""
    return _rewrite(copy.pick(a, "docker/base", "docker/flow"), lambda text: text + b"# %d\n" % (b % 3))


def declaration(copy: Copy, a: int, b: int) -> bool:
    """Arguments, platform, Python; and what is only said."""
    swaps = (
        (r'FLOW = "(rpa1|rpa9)"', 'FLOW = "{}"', ("rpa1", "rpa9")),
        (r'FLOW = "(rpa2|rpa8)"', 'FLOW = "{}"', ("rpa2", "rpa8")),
        (r'platform = "(linux/amd64|linux/arm64)"', 'platform = "{}"', ("linux/amd64", "linux/arm64")),
        (r'python = "(3\.13|3\.12)"', 'python = "{}"', ("3.13", "3.12")),
        (r'title = "(.*)"', 'title = "{}"', ("one", "another")),
        (r"^(# .*|)$", "{}", ("# a comment", "# another")),
    )
    pattern, text, choices = swaps[a % len(swaps)]
    path = copy.root / "docker/images.toml"
    before = path.read_text()
    path.write_text(re.sub(pattern, text.format(choices[b % 2]), before, count=1, flags=re.MULTILINE))
    return path.read_text() != before


def base_image(copy: Copy, a: int, b: int) -> bool:
    """The base's tag names another image."""
    copy.base_ids[BASE] = f"sha256:{b % 3}"
    return True


def lock(copy: Copy, a: int, b: int) -> bool:
    """Inside an image's slice and outside it; what does not count in a lock."""
    path = copy.root / "requirements" / ("runtime.txt", "debug.txt", "test.txt", "base.txt")[a % 4]
    text = path.read_text()
    entries = re.split(r"(?m)^(?=[a-z#])", text)
    pins = [at for at, entry in enumerate(entries) if re.match(r"[a-z]", entry)]
    if not pins:  # earlier edits took the last one
        return False
    at = pins[(a // 4) % len(pins)]
    if b % 7 == 0:
        entries[at] = re.sub(r"==([\d.]+)", rf"==\g<1>.{b % 3}", entries[at], count=1)
    elif b % 7 == 1:
        entries[at] = re.sub(r"(sha256:)..", rf"\g<1>{b % 90 + 10}", entries[at], count=1)
    elif b % 7 == 2:
        entries = entries[:1] + sorted(entries[1:], reverse=bool(b % 2))
    elif b % 7 == 3:
        entries.insert(at, f"# a comment {b % 5}\n")
    elif b % 7 == 4:
        markers = ("sys_platform == 'win32'", "python_version < '3.13'", "platform_machine == 'aarch64'")
        entries.append(f"extra{b % 4}==1.{b % 5} ; {markers[b % 3]} \\\n    --hash=sha256:{'0' * 64}\n")
        entries = list(dict.fromkeys(entries)) if f"extra{b % 4}==" not in text else entries[:-1]
    elif b % 7 == 5:
        del entries[at]
    else:
        entries[0] = f"# header {b % 5}\n"
    path.write_text("".join(entries))
    return path.read_text() != text


def elsewhere(copy: Copy, a: int, b: int) -> bool:
    """Tests, documentation, other packages: in no image."""
    folders = ("tests", "docs", "packages/testkit", "packages/core/tests", "docker/prometheus")
    path = copy.pick(a, *[folder for folder in folders if (copy.root / folder).is_dir()])
    return _rewrite(path or copy.root / "README.md", lambda data: data + b"%d\n" % b)


def cache(copy: Copy, a: int, b: int) -> bool:
    """What is remembered is torn, emptied, or gone."""
    path = copy.root / ".rpa/contents.json"
    if not path.is_file():
        return False
    if b % 3 == 0:
        shutil.rmtree(path.parent)
    else:
        text = path.read_bytes()
        path.write_bytes(text[: a % len(text)] if b % 3 == 1 else text.replace(b"a", b"b", 1))
    return True


ALL: tuple[Mutation, ...] = (
    *(edit, edit_same_size_and_time, put_back, touch, edit_with_old_clock, rename, rename_folder, rename_folder_back),
    *(
        move,
        delete,
        link_file,
        relink,
        link_folder,
        mode,
        new_module,
        init,
        imports,
        exports,
        data,
        junk,
        dockerfile,
        declaration,
    ),
    *(base_image, lock, elsewhere, cache, put_back, imports, new_module),
)
