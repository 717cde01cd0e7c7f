"""Files: nothing half-written under a final name, the same rights for all, and damage named by path."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlutils import files

UMASK = os.umask(0)
os.umask(UMASK)


def rights(path):
    return path.stat().st_mode & 0o777


def test_what_a_library_writes_has_the_rights_of_its_neighbours(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "plain.safetensors")  # 0o600 with safetensors 0.8, whatever the umask
    files.write_text(tmp_path / "notes.txt", "all may read")
    with files.replacing(tmp_path / "states.safetensors") as draft:
        save_file({"a": np.zeros(2)}, draft)
    with files.making(tmp_path / "made") as made:
        (made / "inside").mkdir()
        save_file({"a": np.zeros(2)}, made / "inside" / "states.safetensors")
    for file in ("notes.txt", "states.safetensors", "made/inside/states.safetensors"):
        assert rights(tmp_path / file) == 0o666 & ~UMASK, file
    assert rights(tmp_path / "made") == rights(tmp_path / "made" / "inside") == 0o777 & ~UMASK


def test_an_error_leaves_what_was_there(tmp_path):
    files.write_text(tmp_path / "a.txt", "before")
    with pytest.raises(KeyError), files.replacing(tmp_path / "a.txt") as draft:
        draft.write_text("half")
        raise KeyError
    with pytest.raises(KeyError), files.making(tmp_path / "made"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "before"


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"[1]", b'{"a": "\xe9"}'])
def test_a_json_file_that_holds_no_object_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RuntimeError, match=f"{tmp_path}/run.json (cannot be read|holds a list).*: train it again"):
        files.read_json(tmp_path / "run.json", RuntimeError, "train it again")
    files.write_json(tmp_path / "run.json", {"a": "é"})
    assert files.read_json(tmp_path / "run.json", RuntimeError, "") == {"a": "é"}
