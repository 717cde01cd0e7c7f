"""How rows of `readouts.METHODS` are drawn: one title, colour and marker for the whole repository."""

from dataclasses import dataclass

from mlutils.readouts import METHODS

BLUE, ORANGE, GREEN, RED = "#0173b2", "#de8f05", "#029e73", "#d55e00"  # of seaborn's colorblind palette
PINK, BROWN, SKY = "#cc78bc", "#ca9161", "#56b4e9"
GREY, BLACK = "#6e6e6e", "#000000"
COLOURS = {"blue": BLUE, "orange": ORANGE, "green": GREEN, "red": RED, "pink": PINK, "brown": BROWN, "sky": SKY}
COLOURS |= {"grey": GREY, "black": BLACK}
GROUPS = {
    "reference": "Reference rows",
    "zero-shot": "Zero-shot",
    "fitted": "Zero-shot, fitted on a few votes",
    "supervised": "Supervised",
}


VARIANTS = {  # half-filled marks
    "_calibrated": ("calibrated", "left"),
    "_offsets": ("calibrated, an offset a label", "right"),
    "_crossfitted": ("cross-fitted on tested documents", "top"),
    "_shifted": ("prevalence shift", "bottom"),
}


@dataclass(frozen=True)
class Look:
    """How a method is written and drawn: colour, marker and fill are unique together."""

    title: str
    group: str
    colour: str
    marker: str
    fill: str = "full"


def look(method: str) -> Look:
    """Returns the look of a method; `<method>_calibrated` and the like (VARIANTS) are its half-filled marks.

    Raises ValueError for a name that METHODS does not hold.
    """
    name, suffix = _split(method)
    if name not in METHODS:
        raise ValueError(f"no look for method {method!r}: add it to readouts.METHODS, which has {', '.join(METHODS)}")
    plain = METHODS[name]
    title, group, fill = plain.title, plain.group, "full"
    if suffix:
        word, fill = VARIANTS[suffix]
        title, group = f"{title}, {word}", "fitted" if group == "zero-shot" else group
    return Look(title, group, COLOURS[plain.colour], plain.marker, fill)


def is_drawn(method: str) -> bool:
    """Returns whether figures show a method: of the fitted variants only the calibrated one, tables hold them all."""
    return not method.endswith(("_offsets", "_shifted"))


def order(method: str) -> tuple[int, int]:
    """Returns where a method stands in tables and figures: reference rows, zero-shot, fitted, supervised."""
    name, suffix = _split(method)
    variant = ["", *VARIANTS].index(suffix)
    return list(GROUPS).index(look(method).group), (1 + len(VARIANTS)) * list(METHODS).index(name) + variant


def _split(method):
    """Returns the name of a method and the suffix of its variant, empty where it is none."""
    suffix = next((each for each in VARIANTS if method not in METHODS and method.endswith(each)), "")
    return method.removesuffix(suffix), suffix
