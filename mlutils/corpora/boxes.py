"""Boxes (Kim and Schuster 2023): what is in a box after things were moved, put in and taken out?

The labels of a document are the objects in the box that it asks for. The wording, seven boxes, at most three objects a
box, 0-12 operations and object names disjoint between splits are as in the official files.
"""

import json
import re

import numpy as np
import pandas as pd

from mlutils import sources
from mlutils.corpora.corpus import Corpus, check_filled, choose, concatenate, parts, reading

BOXES = 7
ROOM = 3  # objects a box holds at most
EXPECTED = 2  # mean of the Poisson draw that is cut at ROOM, for the contents at the start
OPERATIONS = 12  # at most
KINDS = {"Move": 0.33, "Remove": 0.44, "Put": 0.23}  # how often, as in the official scenarios
MORE = 0.35  # objects of an operation beyond the first: mean of the Poisson draw, cut at what is possible
SCENARIOS = {"train": 400, "dev": 100, "test": 100}  # each is asked for all seven boxes
MASK = "<extra_id_0>"

OBJECTS = {
    "train": """
        anchor antenna apron armchair arrow axe badge balloon banana banjo basin basket battery beaker bean
        belt bench bicycle blanket blender blouse bolt bonnet bracelet briefcase broom brush bucket buckle
        bulb button cabinet cable calendar candle canoe canvas carpet carrot cello chain chair chalk chest
        chisel clamp coin comb compass cookie cork crayon curtain cushion dagger diary dictionary doll
        domino drawer drum dumbbell easel envelope eraser ferry fiddle flask flute fork funnel garlic gear
        globe glove goggles grape hammer hammock handkerchief harp helmet hinge hook horn hose jug kayak
        kettle kite ladder lamp lantern lemon lens lid
    """,
    "dev": """
        magnet mallet mango marble mask mat medal melon microphone microscope mitten mop mug mushroom nail
        napkin necklace needle nutmeg oar onion orange oven paddle padlock pan parachute parcel pea peach
        pear pebble pen pencil pendant pepper perfume piano pillow pin plum pocketbook postcard poster
        potato pumpkin puppet purse puzzle quilt racket radish rag raincoat rake ribbon robe rocket rope rug
        ruler saddle salt sandal saucer saw scarf scooter screw sculpture shawl shelf shovel sickle sieve
        skate sketch skirt slipper soap sock sofa spade spatula sponge spoon spring stamp stapler statue
        stool strap sugar sweater sword syringe tablet
    """,
    "test": """
        accordion almanac almond amulet anvil apricot atlas avocado backpack bandage banner barrel bathrobe
        beret binder biscuit bobbin bonfire boulder bouquet brooch bugle cactus candy canister cape cardigan
        cherry chimney clarinet clipboard cloak coaster coconut colander corkscrew crate cymbal dice diploma
        dolly donut doormat drill feather figurine flag flashlight gong hairpin tambourine tangerine teapot
        telescope tent thermometer thimble thread tile timer toaster tomato tongs toothbrush torch towel
        tractor tray tricycle tripod trophy trowel trumpet trunk tuba turnip tweezers umbrella urn vase vest
        violin waffle wagon wallet walnut wand wardrobe whisk whistle wig wreath wrench xylophone yarn
        yogurt zipper
    """,
}


def load(split: str = "test", source: str = "generated", generator_seed: int = 0) -> Corpus:
    """Returns Boxes queries; a document ends in "Box N contains" and its labels are objects of the split.

    source: "generated" (own objects, 7 x 400/100/100 queries) or "official" (the authors' archive, or the scenarios of
    its test part in a mirror folder; with the latter, "all" is the test part). No votes.
    """
    choose("source", source, ("generated", "official"))
    wanted = parts(split)
    if source == "generated":
        corpora = [_generated(part, generator_seed) for part in wanted]
    else:
        files = _official_files(split, wanted)
        corpora = [_official(part, path) for part, path in files]
        counts = {part: len(corpus) for (part, _), corpus in zip(files, corpora, strict=True)}
        check_filled("boxes", split, counts, ", ".join(sources.describe(path) for _, path in files))
    return concatenate(corpora, split)


def _corpus(split, rows, labels):
    """Returns the corpus of some queries; rows: (id, text, objects in the box asked for)."""
    column = {label: index for index, label in enumerate(labels)}
    gold = np.zeros((len(rows), len(labels)), dtype=bool)
    for row, (_, _, contents) in enumerate(rows):
        gold[row, [column[thing] for thing in contents]] = True
    return Corpus(
        name="boxes",
        split=split,
        sample="all",
        labels=tuple(labels),
        documents=pd.DataFrame([row[:2] for row in rows], columns=["id", "text"], dtype=str),
        gold=gold,
        votes=np.full(gold.shape, np.nan),
        annotators=np.zeros(len(rows), dtype=int),
    )


# ---- generated -----------------------------------------------------------------------------------


def _generated(split, seed):
    rng = np.random.default_rng([seed, list(OBJECTS).index(split)])
    objects = OBJECTS[split].split()
    rows = []
    for number in range(SCENARIOS[split]):
        sentences, boxes = scenario(rng, objects, int(rng.integers(OPERATIONS + 1)))
        for box, contents in enumerate(boxes):
            rows.append((f"{split}-{number:04d}-{box}", f"{' '.join(sentences)} Box {box} contains", contents))
    return _corpus(split, rows, objects)


def scenario(rng: np.random.Generator, objects: list[str], operations: int) -> tuple[list[str], list[list[str]]]:
    """Returns the sentences of one scenario (description, then operations) and the contents of each box at the end."""
    shuffled = [str(thing) for thing in rng.permutation(objects)]
    boxes = [[shuffled.pop() for _ in range(min(ROOM, rng.poisson(EXPECTED)))] for _ in range(BOXES)]
    start = ", ".join(f"Box {box} contains {_list(things) or 'nothing'}" for box, things in enumerate(boxes))
    sentences = [f"{start}."]
    for _ in range(operations):
        sentences.append(_operate(rng, objects, boxes))
    return sentences, [sorted(things) for things in boxes]


def _list(things):
    return " and ".join(f"the {thing}" for thing in sorted(things))


def _operate(rng, objects, boxes):
    """Carries out one operation, drawn from the kinds that are possible, and returns its sentence."""
    filled = [box for box, things in enumerate(boxes) if things]
    roomy = [box for box, things in enumerate(boxes) if len(things) < ROOM]
    ways = [(source, target) for source in filled for target in roomy if source != target]
    possible = {"Move": bool(ways), "Remove": bool(filled), "Put": bool(roomy)}
    weights = np.array([KINDS[kind] * possible[kind] for kind in KINDS])
    kind = rng.choice(list(KINDS), p=weights / weights.sum())

    source = target = None
    if kind == "Move":
        source, target = ways[rng.integers(len(ways))]
    elif kind == "Remove":
        source = int(rng.choice(filled))
    else:
        target = int(rng.choice(roomy))
    inside = {thing for things in boxes for thing in things}
    here = boxes[source] if source is not None else [thing for thing in objects if thing not in inside]
    most = min(len(here), ROOM - len(boxes[target]) if target is not None else ROOM)
    things = [str(thing) for thing in rng.choice(here, size=min(1 + rng.poisson(MORE), most), replace=False)]
    if source is not None:
        boxes[source] = [thing for thing in here if thing not in things]
    if target is not None:
        boxes[target] += things
    if kind == "Put":
        return f"Put {_list(things)} into Box {target}."
    return f"{kind} {_list(things)} from Box {source}" + (f" to Box {target}." if kind == "Move" else ".")


# ---- official ------------------------------------------------------------------------------------


def _official_files(split, wanted):
    archive = sources.at_hand("boxes-archive")
    if archive or not sources.at_hand("boxes-scenarios"):
        return [(part, sources.fetch(f"boxes-{part}")) for part in wanted]
    if "test" not in wanted or split == "dev+test":
        raise sources.SourceError(
            f"boxes: split {split!r} needs the official archive, only the test scenarios are at hand; "
            "put the archive into the mirror as boxes/boxes-dataset-v1.zip"
        )
    return [("test", sources.fetch("boxes-scenarios"))]


def _official(split, path):
    """Returns the queries of a file whose lines are scenarios (`final_states`) or queries (`masked_content`)."""
    rows = []
    with reading(path):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for read in lines:
        if "final_states" in read:
            queries = [
                (f"{read['sentence']} {box} contains", things) for box, things in sorted(read["final_states"].items())
            ]
        elif "masked_content" in read:
            text = read["sentence_masked"].partition(MASK)[0].strip()
            queries = [(text, read["masked_content"].replace(MASK, " ").strip(" .").split(" and "))]
        else:
            raise ValueError(f"{path}: a line has neither final_states nor masked_content; its fields: {list(read)}")
        for text, things in queries:
            contents = [re.sub(r"^the ", "", thing.strip()) for thing in things]
            box = re.search(r"Box (\d+) contains$", text)
            if box is None:
                raise ValueError(f"{path}: a query does not end in 'Box N contains': {text[-60:]!r}")
            operations = len(re.findall(r"\b(?:Move|Put|Remove) ", text))
            rows.append((f"{read['sample_id']}-{operations}-{box[1]}", text, [x for x in contents if x != "nothing"]))
    objects = {name for _, text, _ in rows for name in re.findall(r"\bthe (\w+)", text)}
    return _corpus(split, rows, sorted(objects | {thing for row in rows for thing in row[2]}))
