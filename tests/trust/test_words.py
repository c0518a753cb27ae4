"""One public name means one thing in the package, and the words stay those of the field."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dpvae_cli"
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}

# Entry points that modules share by convention: each module of a command registers it, and each
# module of a figure draws it from a record and a label. Commands are named after what they call.
CONTRACT = {"figure", "register"}
MOST_HOMONYMS = 2

RETIRED = [
    "ALONE",
    "Agreement",
    "Asked",
    "CodeError",
    "Compared",
    "DamagedError",
    "Desk",
    "DirectPrior",
    "Doing",
    "Drawn",
    "EncodedTraining",
    "EndedByAnother",
    "Exhibit",
    "FileKind",
    "Finished",
    "IMPORTED",
    "LARGEST_TEXT",
    "LONGEST_WAIT",
    "LongWait",
    "Mistake",
    "NOT_OURS",
    "Needs",
    "NeighbourEstimate",
    "OTHERWISE",
    "OnDemand",
    "Opened",
    "OtherFileError",
    "Place",
    "Portrait",
    "Preparation",
    "Repair",
    "RunSizes",
    "SIGNS",
    "SOON",
    "STRANGE",
    "Screen",
    "Setting",
    "Shown",
    "Subject",
    "TRIED",
    "Team",
    "UnreadableError",
    "_Noting",
    "_Throttled",
    "_WithoutRay",
    "_alike",
    "_alone",
    "_apart",
    "_bury",
    "_dismiss",
    "_give_up_stdout",
    "_hire",
    "_laid_out",
    "_last_words",
    "_news",
    "_odd_moments",
    "_stillborn",
    "_wind_up",
    "arrangement",
    "ask",
    "at_work",
    "carry_out",
    "coinciding",
    "comma_separated",
    "continued",
    "copy_log",
    "dealing_order",
    "dealt",
    "departures",
    "dismissed_at_the_end",
    "dotted",
    "ended",
    "evaluating",
    "examined",
    "expanded",
    "explained",
    "gained",
    "global_draws_kept",
    "go_back",
    "guarded",
    "hand_out",
    "heard_by",
    "in_parts",
    "joined",
    "joining",
    "labelled",
    "listen",
    "moved",
    "networks_for",
    "no_picture",
    "offering_another",
    "once",
    "one_line",
    "opening",
    "out_of_reach",
    "own_model",
    "point_latest",
    "prior_fit",
    "ran_out",
    "read_kept",
    "redrawn_from",
    "remedy",
    "result_in",
    "see_through",
    "seed_global_draws",
    "shown_on_demand",
    "speak_plainly",
    "strangers",
    "study_place",
    "surroundings",
    "told",
    "unfit",
    "unseen",
    "with_error",
    "write_kept",
]

PROSE = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CALQUES = re.compile(
    r"\b(?<![Tt]here )(?:is|are) no (?!longer|more|less|better|worse|such|other|emptier)[a-z]+\b"
    r"|\bwhat is of\b|\bso many\b|\bso much of\b|\bto the bit\b",
)


def public_names(tree: ast.Module) -> Iterator[str]:
    """Yield the classes, functions and type aliases that a module defines under a public name."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript()):
                pass
            case _:
                continue
        if not name.startswith("_") and not name.isupper():
            yield name


def definitions(path: Path) -> Iterator[str]:
    """Yield the name of a module and of everything that it defines."""
    yield path.stem
    for node in ast.walk(ast.parse(SOURCES[path])):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) if name.isupper():
                yield name


def is_command(path: Path, name: str) -> bool:
    """Return whether a name is a command of the command line."""
    return path.parent.name == "cli" and name.islower()


def homonyms() -> dict[str, list[str]]:
    """Return the public names that several modules define, with these modules."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path, source in SOURCES.items():
        for name in public_names(ast.parse(source)):
            if not is_command(path, name):
                places[name].append(str(path.relative_to(ROOT)))
    return {
        name: paths
        for name, paths in sorted(places.items())
        if len(paths) > 1 and name not in CONTRACT
    }


def test_a_public_name_means_one_thing():
    found = homonyms()
    assert len(found) <= MOST_HOMONYMS, found


def test_retired_names_do_not_come_back():
    found = {name: str(path) for path in SOURCES for name in definitions(path)}
    assert not {name: found[name] for name in RETIRED if name in found}


def test_checks_are_called_checks():
    functions = {name for path in SOURCES for name in definitions(path)}
    assert not {name for name in functions if re.match("_?refuse", name)}


def test_pages_are_idiomatic():
    pages = {page.name: CALQUES.findall(page.read_text(encoding="utf-8")) for page in PROSE}
    assert not {name: found for name, found in pages.items() if found}


def test_messages_are_idiomatic():
    texts = {
        node.value
        for source in SOURCES.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not {text for text in texts if CALQUES.search(text)}


def test_calques_would_be_noticed():
    assert CALQUES.search("x is no recipe")
    assert CALQUES.search("these are no images")
    assert not CALQUES.search("there is no recipe")
    assert not CALQUES.search("it is no longer finite")
