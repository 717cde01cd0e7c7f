"""What the name of a model says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlutils.readouts import model_names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("miniature-s", ("miniature-s", "base", "", "")),
        ("miniature-s+sft-vignettes", ("miniature-s", "sft", "vignettes", "0")),
        ("miniature-s+sft_icl-vignettes-seed2", ("miniature-s", "sft_icl", "vignettes", "2")),
        ("a/b-8B+rl_f1-msp_podcast-seed10", ("a/b-8B", "rl_f1", "msp_podcast", "10")),
        ("m+sft-vignettes+rl_marginals-vignettes-seed2", ("m", "sft+rl_marginals", "vignettes", "2")),
        ("m+sft-vignettes-seed2+soft-vignettes-seed2", ("m", "sft+soft", "vignettes", "2")),
        ("m+sft-vignettes-seed1+soft-mfrc-seed2", ("m", "sft+soft", "vignettes+mfrc", "1+2")),
        ("folder/with+plus", ("folder/with+plus", "base", "", "")),
        ("folder/with+plus/m+soft-mfrc", ("folder/with+plus/m", "soft", "mfrc", "0")),
    ],
)
def test_what_a_name_says(name, parts):
    assert model_names.parse(name) == model_names.Name(*parts)


word = st.text("abcdefgh", min_size=1, max_size=4)
stages = st.lists(st.tuples(st.sampled_from(["sft", "soft", "rl_f1", "sft_icl"]), word), max_size=3)


@given(word, stages, st.integers(0, 30))
@settings(max_examples=60)
def test_names_are_read_as_they_are_written(base, chain, seed):
    suffix = f"-seed{seed}" if seed else ""
    name = model_names.parse("+".join([base, *(f"{method}-{corpus}{suffix}" for method, corpus in chain)]))
    assert name.base == base and name.tuning == ("+".join(method for method, _ in chain) or "base")
    assert name.tuned_on.split("+") == (list(dict.fromkeys(corpus for _, corpus in chain)) or [""])
    assert name.seed == (str(seed) if chain else "")
