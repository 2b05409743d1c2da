"""Padding, batches and order never change a sample; the likelihood is training's; what is no mel is refused."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

import fwn
from fwn import systems
from fwn.data.corpus import Corpus
from fwn.errors import UserError
from fwn.mel import align
from fwn.nn.weight_norm import fold_weight_norm
from fwn.synthesis.chunked import bucket
from fwn.systems.base import noise

HOP = 256
# Sums inside a convolution are taken in another order when shapes differ: a few units of float32's 1.2e-7, through two
# blocks of the inverse and for samples of size one.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def vocoder(run):
    """The trained model with noise on its weights: fresh couplings are close to the identity and would hide padding."""
    return small.shaken(run)


@pytest.fixture(scope="module")
def mels():
    """Around the edges of the buckets 64, 96 and 128, and as short as it gets."""
    rng = np.random.default_rng(1)
    return {f: rng.uniform(0, 1, (f, 80)).astype(np.float32) for f in (1, 2, 40, 63, 64, 65, 95, 96, 97)}


@pytest.fixture(scope="module")
def keys(mels):
    return {f: jax.random.key(f) for f in mels}


@pytest.fixture(scope="module")
def alone(vocoder, mels, keys):
    return {f: vocoder(mel, 0.8, keys[f]) for f, mel in mels.items()}


def direct(vocoder, mel, key, temperature=0.8):
    """The model's inverse without padding, batch or mask."""
    params = fold_weight_norm(vocoder.params)
    return np.asarray(jax.jit(vocoder.system.sample)(params, mel[None], key[None], temperature, None))[0]


def test_buckets_are_few_and_never_shorter():
    sizes = sorted({bucket(frames) for frames in range(1, 3000)})
    assert sizes == [64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072]
    assert all(frames <= bucket(frames) <= max(64, 1.5 * frames) for frames in range(1, 3000))


@pytest.mark.parametrize("frames", [1, 40, 64, 65, 97])
def test_padding_changes_no_sample(vocoder, mels, keys, alone, frames):
    expected = direct(vocoder, mels[frames], keys[frames])
    assert alone[frames].shape == (frames * HOP,)
    assert expected.std() > 0.05
    assert abs(alone[frames] - expected).max() <= TOLERANCE * max(1, abs(expected).max())


def test_batches_and_order_change_no_sample(vocoder, mels, keys, alone):
    order = [97, 1, 64, 63, 2, 40, 96, 65, 95]
    for batch_size in (1, 3):
        results = list(
            vocoder.synthesise([mels[f] for f in order], [keys[f] for f in order], 0.8, batch_size=batch_size)
        )
        for frames, result in zip(order, results, strict=True):
            assert abs(result - alone[frames]).max() <= TOLERANCE * max(1, abs(result).max())


def test_what_lies_behind_the_end_changes_nothing(vocoder, mels):
    """The end of a padded mel is an end: its speech is that of the same mel in a longer bucket."""
    key = jax.random.key(5)
    short, longer = vocoder(mels[63], 0.8, key), next(vocoder.synthesise([mels[63]], [key], 0.8, least=97))
    assert bucket(97) > bucket(63)
    assert short.shape == longer.shape == (63 * HOP,)
    assert abs(longer - short).max() <= TOLERANCE * max(1, abs(short).max())
    few, many = (noise(jax.random.key(0)[None], n, lambda k: jax.random.normal(k, (HOP,)), "float32") for n in (10, 30))
    np.testing.assert_array_equal(few, many[:, : 10 * HOP])


def test_both_layouts_and_a_batch(vocoder, mels):
    np.testing.assert_array_equal(vocoder(mels[64].T), vocoder(mels[64]))
    both = vocoder(np.stack([mels[64], mels[64][::-1]]), key=jax.random.key(3))
    assert both.shape == (2, 64 * HOP)
    second = vocoder(mels[64][::-1], key=jax.random.fold_in(jax.random.key(3), 1))
    assert abs(both[1] - second).max() <= TOLERANCE * max(1, abs(second).max())


def test_noise_and_temperature(vocoder, mels):
    still = vocoder(mels[40], 0.0, jax.random.key(1))
    np.testing.assert_array_equal(still, vocoder(mels[40], 0.0, jax.random.key(2)))
    assert not np.array_equal(vocoder(mels[40], 0.5, jax.random.key(1)), vocoder(mels[40], 0.5, jax.random.key(2)))
    np.testing.assert_array_equal(vocoder(mels[40]), vocoder(mels[40], 1.0, jax.random.key(0)))  # it predicts


def test_likelihood_is_trainings_and_padding_does_not_change_it(vocoder, corpus):
    prepared = Corpus(corpus)
    for frames in (8, 20):
        audio, mel = prepared.window(0, 2, min(frames, prepared.utterances[0].frames - 2))
        batch = {"audio": audio[None], "mel": mel[None], "index": np.zeros(1, np.int32)}
        vocoder.config.dequantise = False
        plain = systems.build(vocoder.config)
        loss = plain.loss(vocoder.params, (), jax.tree.map(jnp.asarray, batch), jax.random.key(0))[0]
        assert abs(vocoder.log_likelihood(audio, mel) + loss) < 1e-4 * max(1, abs(loss))
        np.testing.assert_allclose(vocoder.log_likelihood(audio[None], mel[None])[0], -loss, rtol=1e-4)


def test_roundtrip_gives_the_recording_back(vocoder, corpus):
    prepared = Corpus(corpus)
    audio, mel = prepared.audio(8), prepared.mel(8)
    back = vocoder.roundtrip(audio, mel)
    assert back.shape == audio.shape
    assert abs(back - audio).max() < 1e-4


T = 40 * HOP
EXTREMES = {
    "silence": np.zeros(T),
    "DC": np.full(T, 0.9),
    "full-scale squares": np.sign(np.sin(np.arange(T) / 20)),
    "impulses": (np.arange(T) % 1000 == 0).astype(float),
    "noise": np.clip(np.random.default_rng(0).normal(size=T), -1, 1),
    "a tenth of a second": 0.5 * np.sin(np.arange(9 * HOP) / 5),
    "ten seconds": 0.5 * np.sin(np.arange(10 * 22050 // HOP * HOP) / 5),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_likelihoods_and_audio_of_extremes_are_finite(run, name):
    """Of a model trained for eight steps, whose audio stays within a hundred times full scale."""
    vocoder = fwn.load(run)
    audio = EXTREMES[name].astype(np.float32)
    if name == "silence":  # align cannot scale it to the contract's peak
        mel = np.zeros((len(audio) // HOP, 80), np.float32)
    else:
        audio, mel = align(audio, vocoder.mel)
    assert np.isfinite(vocoder.log_likelihood(audio, mel))
    copy = vocoder(mel, 0.8, jax.random.key(0))
    assert np.isfinite(copy).all()
    assert np.abs(copy).max() < 100


def test_sixteen_threads_load_and_sample_what_one_does(run, mels):
    def one(_):
        return fwn.load(run)(mels[40], 0.8, jax.random.key(3))

    alone = one(0)
    with ThreadPoolExecutor(16) as pool:
        for audio in pool.map(one, range(16)):
            np.testing.assert_array_equal(audio, alone)


def hifigan_mel():
    return np.random.default_rng(0).uniform(-11, 1, (30, 80)).astype(np.float32)


def test_a_mel_of_another_convention_is_refused_with_both_shown(vocoder):
    with pytest.raises(UserError) as error:
        vocoder(hifigan_mel())
    first, *table = str(error.value).splitlines()
    assert "are not a mel of flowavenet" in first
    assert any("<- differs" in line for line in table)


class Tensor:
    """As PyTorch's: there is no array of it before detach, cpu, and float for bfloat16."""

    def __init__(self, array, kind="float32", attached=True, device="cuda"):
        self.array, self.kind, self.attached, self.device = np.asarray(array), kind, attached, device
        self.shape, self.ndim, self.dtype = self.array.shape, self.array.ndim, f"torch.{kind}"

    def __len__(self):
        return len(self.array)

    def __iter__(self):
        return (Tensor(row, self.kind, self.attached, self.device) for row in self.array)

    def __array__(self, *_, **__):
        return self.numpy()

    def detach(self):
        return Tensor(self.array, self.kind, False, self.device)

    def cpu(self):
        return Tensor(self.array, self.kind, self.attached, "cpu")

    def float(self):
        return Tensor(self.array.astype(np.float32), "float32", self.attached, self.device)

    def numpy(self):
        if self.attached or self.device != "cpu" or self.kind == "bfloat16":
            raise TypeError(f"no array of a {self.kind} on {self.device}, attached: {self.attached}")
        return self.array


FORMS = {
    "tensor": Tensor,
    "double tensor": lambda mel: Tensor(mel.astype(np.float64), "float64"),
    "bands first": lambda mel: Tensor(mel.T),
    "frames": lambda mel: list(Tensor(mel)),
    "nested lists": lambda mel: mel.tolist(),
    "JAX": jnp.asarray,
    "tuple of arrays": tuple,
}


@pytest.mark.parametrize("form", FORMS)
def test_mels_of_any_library_give_the_same_audio(vocoder, mels, alone, keys, form):
    """Bit by bit: from one mel, in a list of mels, and measured."""
    mel, other = FORMS[form](mels[40]), FORMS[form](mels[64])
    np.testing.assert_array_equal(vocoder(mel, 0.8, keys[40]), alone[40])
    both = vocoder([mel, other], 0.8, keys[40])
    for i, (audio, frames) in enumerate(zip(both, (40, 64), strict=True)):
        expected = vocoder(mels[frames], 0.8, jax.random.fold_in(keys[40], i))
        np.testing.assert_array_equal(audio, expected)
    audio = alone[40] / np.abs(alone[40]).max()
    expected = vocoder.log_likelihood(audio, mels[40])
    np.testing.assert_array_equal(vocoder.log_likelihood(audio, mel), expected)
    np.testing.assert_array_equal(vocoder.log_likelihood([audio, Tensor(audio)], [mel, mels[40][None]]), [expected] * 2)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_exact(vocoder, mels, keys, kind):
    rounded = jnp.asarray(mels[40], kind)
    expected = vocoder(np.asarray(rounded, np.float32), 0.8, keys[40])
    np.testing.assert_array_equal(vocoder(rounded, 0.8, keys[40]), expected)
    np.testing.assert_array_equal(vocoder(Tensor(np.asarray(rounded), kind), 0.8, keys[40]), expected)


def test_a_batch_of_tensors_and_a_stream_of_them(vocoder, mels):
    batch = np.stack([mels[64], mels[64][::-1]])
    np.testing.assert_array_equal(vocoder(Tensor(batch)), vocoder(batch))
    np.testing.assert_array_equal(vocoder(Tensor(batch[:1])), vocoder(batch[:1]))
    expected = np.concatenate(list(vocoder.stream(mels[40], chunk=8)))
    for frames in (Tensor(mels[40]), [Tensor(mels[40][:30]), Tensor(mels[40][30]), *mels[40][31:].tolist()]):
        np.testing.assert_array_equal(np.concatenate(list(vocoder.stream(frames, chunk=8))), expected)
