"""Small corpora of any layout."""

from pathlib import Path

import small

from fwn.audio import audio_file


def corpus(
    folder: Path, recordings: list[str], texts: dict[str, str], seconds: float = 0.11, rate: int = small.RATE
) -> Path:
    """A folder with recordings of this length, each a little longer than the one before, and files of text.

    A recording may be of any format that its extension says.
    """
    for i, name in enumerate(recordings):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        audio = small.speech(i, int(seconds * rate) + 10 * i, rate)
        audio_file.write(folder / name, audio, rate)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
