"""Makes a small speech corpus from text with eSpeak NG, in LJSpeech layout: training data with nothing to download.

    python -m data_prep.speak --output=data/espeak --sentences=48

Needs the espeakng-loader wheel (`pip install fwn[demo]`), which carries eSpeak NG. The voice is a synthesiser's: it
shows that the programs work, not how good a model of recordings sounds. Its digital silence no microphone records, so
white noise 70 dB below full scale is added. The same flags give the same files.
"""

import ctypes
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from fwn import cli
from fwn.audio import audio_file
from fwn.disk import atomic
from fwn.errors import UserError

from .sentences import SENTENCES

# From espeak-ng/speak_lib.h
RETRIEVAL, DONT_EXIT, EE_OK, RATE, PITCH, CHARACTERS, UTF8 = 1, 0x8000, 0, 1, 3, 1, 1
ROOM = 10 ** (-70 / 20)  # RMS of the noise that is added, full scale 1
SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def synthesiser(voice: str) -> tuple[int, Callable[[str, int, int], np.ndarray]]:
    """(sample rate, speak(text, words per minute, pitch 0-100) -> int16 [T]).

    Raises UserError where eSpeak NG or the voice is missing. eSpeak keeps its state in globals:
    one synthesiser in a process at a time.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("eSpeak NG is missing; install it with: pip install fwn[demo]") from error
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path()
    rate = espeak.espeak_Initialize(RETRIEVAL, 0, data.encode(), DONT_EXIT)
    if rate <= 0:
        raise UserError(f"eSpeak NG does not start with its data in {data}; install again: pip install fwn[demo]")
    if espeak.espeak_SetVoiceByName(voice.encode()) != EE_OK:
        raise UserError(f"--voice={voice}: eSpeak NG has no such voice (for example en, en-us, de, fr)")
    heard: list[np.ndarray] = []

    @SYNTH_CALLBACK
    def hear(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int | None) -> int:
        if samples and count:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(text: str, words_per_minute: int, pitch: int) -> np.ndarray:
        heard.clear()
        espeak.espeak_SetSynthCallback(hear)  # here, which also keeps `hear` from being collected
        espeak.espeak_SetParameter(RATE, words_per_minute, 0)
        espeak.espeak_SetParameter(PITCH, pitch, 0)
        utf8 = text.encode() + b"\0"
        espeak.espeak_Synth(utf8, ctypes.c_size_t(len(utf8)), 0, CHARACTERS, 0, UTF8, None, None)
        espeak.espeak_Synchronize()
        return np.concatenate(heard) if heard else np.zeros(0, np.int16)

    return rate, speak


def make(output: Path, sentences: int, voice: str, seed: int) -> None:
    """Writes `output`/metadata.csv, last, and `output`/wavs. Raises UserError where there is another corpus already."""
    draw, room = random.Random(seed), np.random.default_rng(seed)
    texts = draw.sample(SENTENCES, sentences)
    tag = re.sub(r"\W+", "_", voice)
    names = [f"espeak-{tag}-{seed}-{i + 1:04d}" for i in range(sentences)]
    metadata = "".join(f"{name}|{text}|{text}\n" for name, text in zip(names, texts, strict=True))
    file = output / "metadata.csv"
    if file.exists():
        if file.read_text(encoding="utf-8") != metadata:
            raise UserError(f"--output={output}: holds another corpus; give a new folder")
        cli.say(f"nothing to do: {output} holds these {sentences} sentences")
        return
    rate, speak = synthesiser(voice)
    (output / "wavs").mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    for name, text in cli.progress(list(zip(names, texts, strict=True)), "speak"):
        steps = speak(text, draw.randint(150, 180), draw.randint(40, 60))
        recorded = steps / np.float32(32768) + ROOM * room.standard_normal(len(steps), np.float32)
        if saturated := audio_file.write(output / "wavs" / f"{name}.wav", recorded, rate):
            cli.say(f"{name}: {saturated} samples beyond full scale were saturated")
        seconds += len(steps) / rate
    with atomic(file) as csv:
        csv.write(metadata.encode())
    cli.say(f"{output}: {sentences} sentences, {seconds / 60:.1f} min at {rate} Hz, eSpeak NG voice {voice}")


OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the corpus (metadata.csv, wavs/); made if need be.", required=True
)
COUNT = flags.DEFINE_integer(
    "sentences", 48, f"How many of the {len(SENTENCES)} sentences.", lower_bound=1, upper_bound=len(SENTENCES)
)
VOICE = flags.DEFINE_string("voice", "en", "eSpeak NG's name of the voice.")
SEED = flags.DEFINE_integer("seed", 0, "Draws the sentences, their order and each one's rate and pitch.")


def main(args: list[str]) -> int | None:
    if args:
        raise UserError(f"unexpected argument {args[0]!r}; the folder is given by --output=DIR")
    make(Path(OUTPUT.value), COUNT.value, VOICE.value, SEED.value)
    return None


if __name__ == "__main__":
    cli.run(main)
