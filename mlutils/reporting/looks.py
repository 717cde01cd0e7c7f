"""How rows of `readouts.METHODS` are drawn: one title, colour and marker for the whole repository."""

from dataclasses import dataclass

from mlutils.readouts import METHODS

COLOURS = {"blue": "#0173b2", "orange": "#de8f05", "green": "#029e73", "red": "#d55e00", "pink": "#cc78bc"}
COLOURS |= {"brown": "#ca9161", "sky": "#56b4e9", "grey": "#6e6e6e", "black": "#000000"}
BLUE, ORANGE, GREEN, RED, PINK, BROWN, SKY, GREY, BLACK = COLOURS.values()  # of seaborn's colorblind palette
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
    colour, marker = COLOURS[plain.colour], plain.marker
    if not suffix:
        return Look(plain.title, plain.group, colour, marker)
    word, fill = VARIANTS[suffix]
    return Look(f"{plain.title}, {word}", plain.group.replace("zero-shot", "fitted"), colour, marker, fill)


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
