"""Builds a listening test as a folder of static pages, and analyses the answers of the listeners.

    python -m fwn.listening build --reference=recordings --systems=WaveNet=out/wavenet --systems=FloWaveNet=out/flow \\
        --output=mos
    python -m fwn.listening build --systems=FloWaveNet=results/flow@0.8 --systems=ClariNet=results/clarinet --output=mos
    python -m fwn.listening analyse answers/*.csv --key=mos/key.json --output=mos/analysis

build writes three things:
  test/     the blind test: ratings from 1 to 5 with a hidden reference and a hidden anchor, then A/B comparisons
  demo/     a page with every utterance by every system, and spectrograms; for the output of fwn.evaluate also
            transcripts, all temperatures, and its figures beside the published ones
  key.json  which clip is which system
Give test/ to listeners and keep key.json. test/index.html works from a disk or from any web server and needs no
network. Each listener downloads a CSV file of answers and sends it to you. The exit code is 3 if utterances were left
out.

analyse reads those files and prints mean opinion scores with intervals, significance and preferences. It leaves out
listeners who do not rate the anchor below the reference, names them, and then exits with 3.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from fwn import cli
from fwn.disk import filled, write_text
from fwn.errors import UserError, nearest
from fwn.evaluation import plots
from fwn.listening import answers, blind_test, demo_page, opinion, stimuli

SYSTEMS = flags.DEFINE_multi_string(
    "systems",
    [],
    "build: NAME=FOLDER, once per system. The folder holds one audio file per utterance, named as in --reference, or "
    "is the output of fwn.evaluate: then NAME=FOLDER@0.8 names the temperature to test, and the demo page shows all. "
    "Listeners of the test do not see NAME; the demo page shows it.",
)
REFERENCE = flags.DEFINE_string(
    "reference", None, "build: folder of recordings. By default those in the first output of fwn.evaluate."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "build: new folder for the test. analyse: folder for JSON, tables and plots; by default no files."
)
SEED = flags.DEFINE_integer(
    "seed", 0, "build: seed of the clips' names and of their order in the files. Each listener gets another order.", 0
)
UTTERANCES = flags.DEFINE_integer("utterances", 0, "build: number of utterances, evenly spaced; 0: all.", 0)
TITLE = flags.DEFINE_string("title", "Listening test", "build: heading of the pages; listeners see it.")
HALF_STEPS = flags.DEFINE_bool("half_steps", False, "build: ratings 1, 1.5, 2 … 5 instead of 1, 2 … 5.")
PAIRS = flags.DEFINE_multi_string(
    "pairs",
    [],
    "build: NAME,NAME to compare in A/B; may be repeated. By default all pairs of systems; a single system is compared "
    f"with the reference. {stimuli.REFERENCE!r} may be one of the names.",
)
KEY = flags.DEFINE_string(
    "key", None, "analyse: key.json of the test. By default the one beside the answers or in one of two folders above."
)


def build() -> int:
    """Writes the test. Returns the exit code: 3 if utterances were left out that some system has."""
    if not OUTPUT.value:
        raise UserError("build: name a new folder for the test: --output=FOLDER")
    output = Path(OUTPUT.value)
    taken = f"--output={output}: exists already; name a new folder (the key of a test is never overwritten)"
    with filled(output, taken) as folder:
        return write_build(folder, output)


def write_build(folder: Path, output: Path) -> int:
    """Writes all into `folder`, and says where it will be in `output`."""
    found, level = stimuli.match_levels(stimuli.gather(SYSTEMS.value, REFERENCE.value, UTTERANCES.value))
    pairs = blind_test.pairs_of(found, PAIRS.value)
    evaluations = demo_page.evaluations(found)
    for note in found.notes:
        cli.say(note)
    key = blind_test.write_test(folder / "test", found, pairs, TITLE.value, SEED.value, HALF_STEPS.value)
    demo_page.write(folder / "demo", found, TITLE.value, level, evaluations)
    write_text(folder / "key.json", json.dumps(key | {"level_db": level}, indent=1) + "\n")
    cli.say(
        f"test {key['test']}: {len(key['clips'])} clips and {len(key['pairs'])} pairs, about {key['minutes']} min "
        f"per listener; all clips at {level:.1f} dB RMS\n"
        f"  for listeners:  {output / 'test' / 'index.html'} (with its folder)\n"
        f"  demo page:      {output / 'demo' / 'index.html'}\n"
        f"  keep:           {output / 'key.json'}"
    )
    return 0 if found.complete else 3


def analyse(paths: list[str]) -> int:
    """Prints and writes the statistics. Returns the exit code: 3 if a listener was left out."""
    if not paths:
        raise UserError("analyse: name the CSV files that listeners downloaded: analyse results/*.csv")
    key = answers.read_key(KEY.value or answers.find_key(paths))
    found = answers.read(paths, key)
    left_out, unknown = opinion.inattentive(found.ratings)
    for note in [*found.notes, *unknown, *(f"{name}: left out: {why}" for name, why in left_out.items())]:
        cli.say(note)
    analysis = opinion.analyse(key["systems"], found.ratings, found.preferences, left_out)
    text = opinion.report(key["title"], analysis)
    if OUTPUT.value:
        write(Path(OUTPUT.value), key, analysis, found.notes + unknown)
    cli.say(text, newlines=True)
    return 3 if left_out else 0


def write(output: Path, key: dict[str, Any], analysis: opinion.Analysis, notes: list[str]) -> None:
    """Writes results.json, table.txt, table.md, mos.png and preferences.png."""
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "table.txt", opinion.report(key["title"], analysis))
    write_text(output / "table.md", opinion.report(key["title"], analysis, markdown=True))
    scores = {s: {name: e._asdict() for name, e in score._asdict().items()} for s, score in analysis.scores.items()}
    comparisons = [c._asdict() | {"difference": c.difference._asdict()} for c in analysis.comparisons]
    result = {"test": key["test"], "title": key["title"], "notes": notes} | analysis._asdict()
    result |= {"scores": scores, "comparisons": comparisons, "preferences": [p._asdict() for p in analysis.preferences]}
    write_text(output / "results.json", json.dumps(result, indent=2) + "\n")
    means = {s: e.over_listeners for s, e in analysis.scores.items()}
    rated = {s: (e.mean, e.ci95 or 0.0) for s, e in means.items() if e.mean is not None}
    if rated:
        plots.intervals(output / "mos.png", rated, "mean opinion score, 95% interval over listeners", (1, 5))
    if analysis.preferences:
        counts = {(p.a, p.b): (p.prefer_a, p.same, p.prefer_b) for p in analysis.preferences}
        plots.shares(output / "preferences.png", counts)


def main(args: list[str]) -> int:
    command = args[0] if args else ""
    if command == "analyse":
        return analyse(args[1:])
    if command != "build":
        what = f"unknown command {command!r}{nearest(command, ('build', 'analyse'))}" if command else "no command"
        raise UserError(f"{what}; give build or analyse")
    if args[1:]:
        raise UserError(f"build: unexpected argument {args[1]!r}: all settings are flags (--help lists them)")
    return build()


if __name__ == "__main__":
    cli.run(main)
