"""MSP-Podcast 1.11 is licensed: its reader is tested on a made-up fixture in the described formats."""

import numpy as np
import pytest

from mlutils import corpora, sources
from mlutils.corpora.msp_podcast import LABELS
from tests.corpora.test_corpora import files  # noqa: F401

CONSENSUS = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
a1.wav,A,4.1,2.0,5.0,1,Male,Development
a2.wav,X,4.1,2.0,5.0,1,Male,Development
a3.wav,O,4.1,2.0,5.0,1,Male,Development
a4.wav,N,4.1,2.0,5.0,1,Male,Development
t1.wav,H,4.1,2.0,5.0,2,Female,Train
e1.wav,U,4.1,2.0,5.0,3,Female,Test1
e2.wav,S,4.1,2.0,5.0,3,Female,Test2
"""
ROWS = {
    "a1.wav": ["Angry", "Angry", "Other-annoyed", "Contempt"],
    "a2.wav": ["Happy", "Sad"],
    "a3.wav": ["Other-tired"],  # nobody takes part
    "a4.wav": ["Neutral"],  # has no transcript
    "t1.wav": ["Happy"],
    "e1.wav": ["Surprise"],
    "e2.wav": ["Sad"],
}


def detail(worker, emotion):
    return f"WORKER{worker:08d}; {emotion}; Second,{emotion}; A:4.000000; V:5.000000; D:4.000000;"


@pytest.fixture
def podcast(files):  # noqa: F811
    rows = [f'{name},"{detail(worker, emotion)}"' for name, said in ROWS.items() for worker, emotion in enumerate(said)]
    files("msp-podcast/Labels/labels_consensus.csv", CONSENSUS)
    files("msp-podcast/Labels/labels_detailed.csv", "FileName,EmoDetail\n" + "\n".join(rows) + "\n")
    for name in ROWS:
        if name != "a4.wav":
            files(f"msp-podcast/Transcripts/{name[:-4]}.txt", f"so this is\n {name} \n")
    return files


def test_votes_are_shares_of_primary_emotions(podcast):
    found = corpora.load("msp_podcast", "dev")
    assert found.labels == LABELS and len(LABELS) == 8 and found.single_label
    assert found.documents.to_dict("list") == {
        "id": ["a1.wav", "a2.wav"],
        "text": ["so this is a1.wav", "so this is a2.wav"],
    }
    shares = dict(zip(LABELS, found.votes[0], strict=True))
    assert shares["angry"] == pytest.approx(2 / 3) and shares["contempt"] == pytest.approx(1 / 3)
    assert found.votes.sum(axis=1) == pytest.approx(np.ones(2)) and found.annotators.tolist() == [3, 2]
    assert [LABELS[i] for i in np.flatnonzero(found.gold[0])] == ["angry"] and not found.gold[1].any()
    assert found.missing == ("a3.wav", "a4.wav")
    assert list(found.annotations["annotator"]) == ["WORKER00000000", "WORKER00000001", "WORKER00000003"] + [
        "WORKER00000000",
        "WORKER00000001",
    ]


def test_splits(podcast):
    assert list(corpora.load("msp_podcast", "train").documents["id"]) == ["t1.wav"]
    assert list(corpora.load("msp_podcast", "test").documents["id"]) == ["e1.wav", "e2.wav"]
    assert len(corpora.load("msp_podcast", "all")) == 5


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        ("consensus", "a1.wav,A", "a1.wav,Q", r"classes \['Q'\]"),
        ("consensus", "EmoClass", "Emotion", "has no columns"),
        ("detailed", "Angry", "Grumpy", "emotion 'Grumpy'"),
        ("detailed", "WORKER", "W", "not `WORKER"),
        ("detailed", "EmoDetail", "EmoClass_Major", "is it release 1.11"),
    ],
)
def test_other_formats_are_refused_by_name(podcast, path, old, new, message, tmp_path):
    file = tmp_path / "mirror" / "msp-podcast" / "Labels" / f"labels_{path}.csv"
    podcast(f"msp-podcast/Labels/labels_{path}.csv", file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        corpora.load("msp_podcast", "dev")


def test_without_the_files_the_laboratory_is_named(files):  # noqa: F811
    with pytest.raises(sources.SourceError, match="MSP laboratory"):
        corpora.load("msp_podcast", "dev")
    files("msp-podcast/Labels/labels_consensus.csv", CONSENSUS)
    files("msp-podcast/Labels/labels_detailed.csv", f'FileName,EmoDetail\na1.wav,"{detail(1, "Sad")}"\n')
    with pytest.raises(sources.SourceError, match="Transcripts.*is not there.*MSP laboratory"):
        corpora.load("msp_podcast", "dev")
