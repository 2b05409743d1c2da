"""Listening tests: builds one as a folder of static pages, and analyses what the listeners hand in.

    python -m fwn.listening build --reference=recordings --systems=WaveNet=out/wavenet --systems=FloWaveNet=out/flow \\
        --output=mos
    python -m fwn.listening build --systems=FloWaveNet=results/flow@0.8 --systems=ClariNet=results/clarinet --output=mos
    python -m fwn.listening analyse answers/*.csv --key=mos/key.json --output=mos/analysis

build writes test/ (blind: rating from 1 to 5, with hidden reference and hidden anchor, then A/B), demo/ (every
utterance by every system, with spectrograms; where they are fwn.evaluate's, all temperatures, and its figures beside
the published ones) and key.json. Give test/ to listeners: its index.html works from a disk or from any web space,
without a network; each listener downloads a CSV file and hands it in. Keep key.json.

analyse takes those files and prints mean opinion scores with intervals, significance and preferences. Listeners who
rate the anchor not below the reference are left out by name; the exit code is then 3, as where build leaves utterances
out.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from fwn import cli
from fwn.errors import UserError, nearest
from fwn.evaluation import plots
from fwn.listening import answers, blind_test, demo_page, opinion, stimuli

SYSTEMS = flags.DEFINE_multi_string(
    "systems",
    [],
    "build: NAME=FOLDER, repeated; the folder holds one audio file per utterance, named as in --reference, or is the "
    "output of fwn.evaluate, where NAME=FOLDER@0.8 says which temperature is tested (the demo page shows all). The "
    "name appears on the demo page only.",
)
REFERENCE = flags.DEFINE_string(
    "reference", None, "build: folder of recordings. By default those in the first output of fwn.evaluate are taken."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "build: new folder for the test. analyse: folder for JSON, tables and plots; by default none."
)
SEED = flags.DEFINE_integer(
    "seed", 0, "build: of the names of clips and of the order. Listeners get orders of their own.", 0
)
UTTERANCES = flags.DEFINE_integer("utterances", 0, "build: only so many utterances, evenly chosen; 0: all.", 0)
TITLE = flags.DEFINE_string("title", "Listening test", "build: heading of the pages; listeners see it.")
HALF_STEPS = flags.DEFINE_bool("half_steps", False, "build: ratings 1, 1.5, 2 … 5 in place of 1, 2 … 5.")
PAIRS = flags.DEFINE_multi_string(
    "pairs",
    [],
    "build: NAME,NAME to be compared in A/B, may be repeated; by default all pairs of systems, or a single system and "
    f"the {stimuli.REFERENCE!r}, which may be named too.",
)
KEY = flags.DEFINE_string(
    "key", None, "analyse: key.json of the test. By default looked for beside the results and above."
)


def build() -> int:
    """Writes the test; 3 where an utterance that some systems have was left out."""
    if not OUTPUT.value:
        raise UserError("build: name a new folder for the test: --output=FOLDER")
    output = Path(OUTPUT.value)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output={output}: already there; name a new folder (the key of an old test is not replaced)")
    found, level = stimuli.match_levels(stimuli.gather(SYSTEMS.value, REFERENCE.value, UTTERANCES.value))
    pairs = blind_test.pairs_of(found, PAIRS.value)
    evaluations = demo_page.evaluations(found)
    for note in found.notes:
        cli.say(note)
    demo_page.write(output / "demo", found, TITLE.value, level, evaluations)
    key = blind_test.write_test(output / "test", found, pairs, TITLE.value, SEED.value, HALF_STEPS.value)
    (output / "key.json").write_text(json.dumps(key | {"level_db": level}, indent=1) + "\n", encoding="utf-8")
    cli.say(
        f"test {key['test']}: {len(key['clips'])} clips and {len(key['pairs'])} pairs, about {key['minutes']} min "
        f"per listener; all at {level:.1f} dB RMS\n"
        f"  for listeners:  {output / 'test' / 'index.html'} (with its folder)\n"
        f"  demo page:      {output / 'demo' / 'index.html'}\n"
        f"  keep:           {output / 'key.json'}"
    )
    return 0 if found.complete else 3


def analyse(paths: list[str]) -> int:
    """Prints and keeps the figures; 3 where a listener was left out."""
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
        keep(Path(OUTPUT.value), key, analysis, found.notes + unknown)
    cli.say(text)
    return 3 if left_out else 0


def keep(output: Path, key: dict[str, Any], analysis: opinion.Analysis, notes: list[str]) -> None:
    """results.json, table.txt, table.md, mos.png, preferences.png."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.txt").write_text(opinion.report(key["title"], analysis), encoding="utf-8")
    (output / "table.md").write_text(opinion.report(key["title"], analysis, markdown=True), encoding="utf-8")
    scores = {s: {name: e._asdict() for name, e in score._asdict().items()} for s, score in analysis.scores.items()}
    comparisons = [c._asdict() | {"difference": c.difference._asdict()} for c in analysis.comparisons]
    result = {"test": key["test"], "title": key["title"], "notes": notes} | analysis._asdict()
    result |= {"scores": scores, "comparisons": comparisons, "preferences": [p._asdict() for p in analysis.preferences]}
    (output / "results.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
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
        raise UserError(f"{command!r} is no command{nearest(command, ('build', 'analyse'))}; give build or analyse")
    if args[1:]:
        raise UserError(f"build: unexpected argument {args[1]!r}: all settings are flags (--help lists them)")
    return build()


if __name__ == "__main__":
    cli.run(main)
