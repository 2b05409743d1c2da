"""Estimates by speaker."""

from collections.abc import Callable, Mapping
from typing import Any

from fwn.evaluation import estimates
from fwn.evaluation.metrics import METRICS
from fwn.terminal import aligned

SHOWN = "log_mel_l1", "mcd", "f0_rmse_cents", "vuv_error", "pesq_wb", "stoi"  # of METRICS, in the table
Columns = dict[str, dict[str, estimates.Estimate]]


def by_speaker(
    rows: Mapping[str, Any], speakers: Mapping[str, str], summarise: Callable[[Any], Columns]
) -> dict[str, Columns]:
    """The estimates over each speaker's utterances, {} unless there are several speakers.

    rows: {"likelihood": {name: …}, "copies": {temperature: {name: …}}}. speakers: by name of the utterance.
    """
    found: dict[str, Columns] = {}
    for speaker in sorted(set(speakers.values())) if len(set(speakers.values())) > 1 else []:

        def own(of: Mapping[str, Any], speaker: str = speaker) -> dict[str, Any]:
            return {name: row for name, row in of.items() if speakers[name] == speaker}

        copies = {t: own(of) for t, of in rows["copies"].items()}
        found[speaker] = summarise({"likelihood": own(rows["likelihood"]), "copies": copies})
    return found


def table(speakers: Mapping[str, Columns], markdown: bool = False) -> str:
    """A row for each speaker: the likelihoods, and some metrics of the copies at the first temperature."""
    temperature = next(title for title in next(iter(speakers.values())) if title != "likelihood")
    labels = [METRICS[name].label for name in SHOWN]
    cells = [["speaker", "utterances", "nats/sample, 16 bit", "dequantised", *labels]]
    for speaker, columns in speakers.items():
        nats = [columns["likelihood"][name] for name in ("nats_per_sample", "nats_per_sample_dequantised")]
        copies = [estimates.cell(columns[temperature].get(name), METRICS[name].digits) for name in SHOWN]
        cells.append(
            [
                " ".join(speaker.split()) or "(unnamed)",
                str(nats[0].total),
                *(estimates.cell(n, 4) for n in nats),
                *copies,
            ]
        )
    return f"by speaker; copies at {temperature}\n\n" + aligned(cells, "<" + ">" * (len(cells[0]) - 1), markdown)
