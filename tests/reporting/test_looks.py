"""Every method has a look of its own, variants of one share it."""

import pytest

from mlutils.readouts import METHODS
from mlutils.reporting import looks, published


def test_every_method_has_its_own_look():
    found = [looks.look(name) for name in METHODS]
    assert len({(look.colour, look.marker) for look in found}) == len({look.title for look in found}) == len(METHODS)
    assert {look.group for look in found} == set(looks.GROUPS) - {"fitted"}
    assert looks.look("unary_breakdown_calibrated").group == "fitted"
    assert set(published.alignment()["method"]) <= set(METHODS)


def test_variants_share_colour_and_marker():
    plain, calibrated = looks.look("unary_breakdown"), looks.look("unary_breakdown_calibrated")
    assert (plain.colour, plain.marker) == (calibrated.colour, calibrated.marker)
    assert plain.fill != calibrated.fill and calibrated.title == "Unary breakdown, calibrated"
    methods = ["sft_outputs", "unary_breakdown_calibrated", "zeros", "unary_breakdown", "binary_breakdown"]
    ranked = ["zeros", "unary_breakdown", "binary_breakdown", "unary_breakdown_calibrated", "sft_outputs"]
    assert sorted(methods, key=looks.order) == ranked


@pytest.mark.parametrize("name", ["nonesuch", "_calibrated", "nonesuch_calibrated"])
def test_an_unknown_method_is_an_error(name):
    with pytest.raises(ValueError, match="METHODS"):
        looks.look(name)
