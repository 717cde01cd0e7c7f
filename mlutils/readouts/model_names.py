"""What the name of a model says: its base, how it was tuned, on what, and from which seed."""

import re
from dataclasses import dataclass

BASE = "base"  # the tuning of a model that is not tuned
STAGE = re.compile(r"(?P<method>(?:sft|soft|rl)(?:_\w+)?)-(?P<corpus>[^+/]+?)(?:-seed(?P<seed>\d+))?")


@dataclass(frozen=True)
class Name:
    """What the name of a model says: its base, how it was tuned (`base` where it was not), on what, and the seed."""

    base: str
    tuning: str = BASE  # methods, joined by + where one began from the other
    tuned_on: str = ""  # corpora, likewise, one where they are the same
    seed: str = ""


def parse(name: str) -> Name:
    """Returns what `<base>+<method>-<corpus>[-seed<k>]+...` says; no suffix is seed 0, an untuned model has no seed.

    Stages are the last parts that begin with sft, soft or rl; what stands before them is the base, a folder with a plus
    in its name too. The seed is the last stage's, joined to an earlier one that is neither 0 nor the same.
    """
    base, stages = name, []
    while (cut := base.rpartition("+"))[1] and (found := STAGE.fullmatch(cut[2])):
        base = cut[0]
        stages.insert(0, found)
    if not stages:
        return Name(name)
    seeds = [stage["seed"] or "0" for stage in stages]
    others = [seed for seed in dict.fromkeys(seeds[:-1]) if seed not in ("0", seeds[-1])]
    corpora = dict.fromkeys(stage["corpus"] for stage in stages)
    return Name(base, "+".join(stage["method"] for stage in stages), "+".join(corpora), "+".join([*others, seeds[-1]]))


def name_tuned(base: str, tuning: str, tuned_on: str) -> str:
    """Returns the name of a model without seeds, short where all stages saw one corpus."""
    return base if tuning == BASE else f"{base}+{tuning}-{tuned_on}"
