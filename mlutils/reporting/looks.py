"""How each method is written and drawn: one title, colour and marker for the whole repository (section 9)."""

from dataclasses import dataclass, replace

BLUE, ORANGE, GREEN, RED = "#0173b2", "#de8f05", "#029e73", "#d55e00"  # of seaborn's colorblind palette
PINK, BROWN, SKY = "#cc78bc", "#ca9161", "#56b4e9"
GREY, BLACK = "#6e6e6e", "#000000"
GROUPS = {
    "reference": "Reference rows",
    "zero-shot": "Zero-shot",
    "fitted": "Zero-shot, fitted on a few votes",
    "supervised": "Supervised",
}


@dataclass(frozen=True)
class Look:
    """How a method is written and drawn: colour and marker are unique together, dash and hatch help."""

    title: str
    group: str
    colour: str
    marker: str
    dash: str = "-"
    hatch: str = ""
    fill: str = "full"


METHOD_LOOK = {
    "zeros": Look("All zeros", "reference", GREY, "+", ":"),
    "constant_0.1": Look("Constant 0.1", "reference", GREY, "x", "--"),
    "uniform": Look("Uniform", "reference", GREY, "4", "--"),
    "base_rate": Look("Base rate", "reference", GREY, "1", "-."),
    "tfidf": Look("TF-IDF", "reference", GREY, "d"),
    "noise_floor": Look("Noise floor", "reference", BLACK, "|"),
    "compare_to_none": Look("Compare-to-none", "zero-shot", BLUE, "o", "-", "//"),
    "hard_predictions": Look("Hard predictions", "zero-shot", RED, "X", "--", "xx"),
    "unary_breakdown": Look("Unary breakdown", "zero-shot", GREEN, "s", "-.", ".."),
    "binary_breakdown": Look("Binary breakdown", "zero-shot", ORANGE, "^", ":", "\\\\"),
    "binary_breakdown_outcomes": Look("Binary breakdown (outcomes)", "zero-shot", ORANGE, "v", "--", "||"),
    "binary_breakdown_position": Look("Binary breakdown (position term)", "zero-shot", ORANGE, "<", "-.", "//"),
    "max_over_generations": Look("Max-over-generations", "zero-shot", PINK, "D", "-", "--"),
    "path_marginal": Look("Path marginal", "zero-shot", SKY, "P", "--", "++"),
    "set_marginal": Look("Set marginal", "zero-shot", BROWN, "h", "-.", "oo"),
    "linear_probing": Look("Linear probing", "supervised", BLUE, "<", "--", "//"),
    "bert_demux": Look("BERT (Demux)", "supervised", GREEN, ">", "-", ".."),
    "demux_soft": Look("Demux, soft targets", "supervised", PINK, ">", "-.", ".."),
    "encoder_soft": Look("Encoder, soft targets", "supervised", SKY, "p", "-.", "++"),
    "encoder_blend": Look("Encoder and TF-IDF, blended", "supervised", GREEN, "8", "--", "||"),
    "frozen_encoder": Look("Frozen encoder", "supervised", ORANGE, "p", ":", "oo"),
    "stacking": Look("Stacking", "supervised", BROWN, "*", ":", "oo"),
    "sft_outputs": Look("SFT outputs", "supervised", RED, "P", "-.", "xx"),
    "sft_max_over_generations": Look("SFT max-over-generations", "supervised", PINK, "H", "--", "--"),
}
VARIANTS = {  # half-filled marks
    "_calibrated": ("calibrated", "left"),
    "_offsets": ("calibrated, an offset a label", "right"),
    "_crossfitted": ("cross-fitted on tested documents", "top"),
    "_shifted": ("prevalence shift", "bottom"),
}


def look(method: str) -> Look:
    """Returns the look of a method; `<method>_calibrated` and the like (VARIANTS) are its half-filled marks.

    Raises ValueError for a name that METHOD_LOOK does not hold.
    """
    if method in METHOD_LOOK:
        return METHOD_LOOK[method]
    for suffix, (word, fill) in VARIANTS.items():
        base = METHOD_LOOK.get(method.removesuffix(suffix))
        if method.endswith(suffix) and base is not None:
            group = "fitted" if base.group == "zero-shot" else base.group
            return replace(base, title=f"{base.title}, {word}", fill=fill, group=group)
    raise ValueError(f"no look for method {method!r}: add it to METHOD_LOOK, which has {', '.join(METHOD_LOOK)}")


def is_drawn(method: str) -> bool:
    """Returns whether figures show a method: of the fitted variants only the calibrated one, tables hold them all."""
    return not method.endswith(("_offsets", "_shifted"))


def order(method: str) -> tuple[int, int]:
    """Returns where a method stands in tables and figures: reference rows, zero-shot, supervised."""
    base = next((method.removesuffix(s) for s in VARIANTS if method.endswith(s)), method)
    variant = next((1 + i for i, s in enumerate(VARIANTS) if method.endswith(s)), 0)
    return list(GROUPS).index(look(method).group), (1 + len(VARIANTS)) * list(METHOD_LOOK).index(base) + variant
