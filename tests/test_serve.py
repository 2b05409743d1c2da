"""The server: its audio is the vocoder's, its limits hold, whatever is sent it answers, and it ends in order."""

import asyncio
import contextlib
import io
import re
import signal
import socket
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import serving
import small
import soundfile
from array_files import torch_bytes
from safetensors.numpy import save
from serving import NPY, httpx, mel, npy, recorded

from fwn.audio.audio_file import pcm16
from fwn.mel import align
from fwn.serving.limits import Limits
from fwn.serving.turns import Turns
from fwn.synthesis.vocoder import Vocoder
from fwn.training import checkpoints


@pytest.fixture(scope="module")
def vocoder():
    return Vocoder(serving.voice())


@pytest.fixture(scope="module")
def served(vocoder):
    with serving.server(vocoder) as server:
        server.engine.warm()
        yield server


def until(condition):
    """Waits until it is true, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def array(response):
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))


def post(server, query, content, headers=NPY):
    return server.client.post(f"/v1/{query}", content=content, headers=headers)


# -- what is returned


@pytest.mark.parametrize("frames", [50, 96, 150])
def test_speech_is_the_vocoders(served, vocoder, frames):
    """Padded, as long as a bucket, and in windows; in every format, whole and streamed."""
    expected = vocoder(mel(frames), 0.5, jax.random.key(5), speaker="bob")
    query = "mel?temperature=0.5&seed=5&speaker=bob"
    np.testing.assert_allclose(array(post(served, f"{query}&format=npy", npy(mel(frames).T))), expected, atol=2e-6)
    assert 0.05 < np.abs(expected).max() < 1
    steps = pcm16(expected)[0].astype(int)
    for form, stream in (("wav", 0), ("flac", 0), ("pcm", 0), ("wav", 1), ("pcm", 1)):
        response = post(served, f"{query}&format={form}&stream={stream}", npy(mel(frames)))
        assert response.status_code == 200, response.text
        assert response.headers["x-sample-rate"] == "22050"
        assert (response.headers.get("transfer-encoding") == "chunked") == bool(stream)
        content = response.content
        found = (
            np.frombuffer(content, "<i2") if form == "pcm" else soundfile.read(io.BytesIO(content), dtype="int16")[0]
        )
        assert abs(found.astype(int) - steps).max() <= 1, (form, stream)
        assert len(found) == len(steps)


def test_the_first_audio_of_a_stream_comes_before_the_last_is_computed(served, vocoder, monkeypatch):
    """The second window is held until the first piece of audio is here."""
    held, stream = threading.Event(), vocoder.stream

    def slow(*args):
        for i, piece in enumerate(stream(*args)):
            assert i == 0 or held.wait(60)
            yield piece

    monkeypatch.setattr(vocoder, "stream", slow)
    with served.client.stream(
        "POST", "/v1/mel?stream=1&speaker=ann&format=pcm", content=npy(mel(150)), headers=NPY
    ) as r:
        pieces = r.iter_raw()
        first = next(pieces)
        held.set()
        rest = b"".join(pieces)
    assert len(first) > 0
    assert len(first + rest) == 2 * 150 * 256


@pytest.mark.parametrize("kind", ["npz", "safetensors", "pt"])
def test_files_of_mels(served, kind):
    file = io.BytesIO()
    np.savez(file, mel=mel(20), other=np.zeros(3))
    body = {"npz": file.getvalue(), "safetensors": save({"mel": mel(20)}), "pt": torch_bytes(mel(20))}[kind]
    found = post(served, f"mel?format=npy&speaker=ann&kind={kind}", body, {"content-type": "application/octet-stream"})
    by_type = post(served, "mel?format=npy&speaker=ann", npy(mel(20)))
    np.testing.assert_array_equal(array(found), array(by_type))


def test_copies_spectrograms_and_likelihoods_of_recordings(served, vocoder):
    body = recorded(20_000, "FLAC", 24_000)
    samples, _ = soundfile.read(io.BytesIO(recorded(20_000, rate=22_050)), dtype="float32")
    audio, own = align(samples, vocoder.mel)
    wav = {"content-type": "audio/wav"}
    copy = array(post(served, "wav?format=npy&speaker=ann&seed=1", recorded(20_000), wav))
    expected = vocoder(own, key=jax.random.key(1), speaker="ann")
    np.testing.assert_allclose(copy, expected, atol=1e-4)  # the body has 16 bits
    shown = post(served, "spectrogram", recorded(20_000), wav).json()
    np.testing.assert_allclose(shown["mel"], own, atol=1e-3)
    assert (shown["frames"], shown["low"], shown["high"]) == (len(own), 0.0, 1.0)
    said = post(served, "likelihood?speaker=ann", recorded(20_000), wav).json()
    nats = vocoder.log_likelihood(audio, own, "ann", per_frame=True)
    np.testing.assert_allclose(said["nats"], nats, atol=0.02)
    padded = vocoder.log_likelihood(audio, own, "ann", per_frame=True, chunk=0, least=96)
    np.testing.assert_allclose(padded, nats, atol=1e-4)
    assert said["nats_per_sample"] == pytest.approx(np.mean(said["nats"]))
    assert post(served, "spectrogram", body, {"content-type": "audio/flac; rate=1"}).json()["frames"] > 70


def test_requests_are_computed_together_and_do_not_depend_on_each_other(vocoder):
    """Four at a time make a batch of four; each has the audio that it has alone, by its seed."""
    with serving.server(vocoder, max_wait=60) as server, ThreadPoolExecutor(4) as threads:
        bodies = [npy(mel(40 + 8 * i, i)) for i in range(4)]
        together = list(
            threads.map(lambda i: array(post(server, f"mel?format=npy&speaker=ann&seed={i}", bodies[i])), range(4))
        )
        text = server.client.get("/metrics").text
    assert 'fwn_batch_size_bucket{le="2.0"} 0.0' in text
    assert 'fwn_batch_size_bucket{le="4.0"} 1.0' in text
    for i, found in enumerate(together):
        alone = vocoder(mel(40 + 8 * i, i), key=jax.random.key(i), speaker="ann")
        np.testing.assert_allclose(found, alone, atol=2e-6)
    assert np.abs(together[0][:100] - together[1][:100]).max() > 1e-3


def test_turns():
    """The largest batch that is filled to three quarters, the oldest first; not the cancelled; errors by batch."""
    turns_taken: list = []

    def compute(items):
        turns_taken.append(items)
        if "bad" in items:
            raise ValueError("bad")
        return [f"{item}!" for item in items]

    async def run():
        turns = Turns([1, 2, 4], 0.0, lambda *_: None)
        items = [("a", f"a{i}") for i in range(7)] + [("b", "b0"), ("b", "b1"), ("b", "b2"), ("c", "bad")]
        work = [asyncio.ensure_future(turns.batch(kind, compute, item)) for kind, item in items]
        work.append(asyncio.ensure_future(turns.alone("window", lambda: "window!")))
        await asyncio.sleep(0)
        assert len(turns) == 12
        work[6].cancel()
        await turns.start()
        results = await asyncio.gather(*work, return_exceptions=True)
        await turns.stop()
        return results

    *results, bad, window = asyncio.run(run())
    assert turns_taken == [["a0", "a1", "a2", "a3"], ["a4", "a5"], ["b0", "b1", "b2"], ["bad"]]
    assert results[:6] == [f"a{i}!" for i in range(6)]
    assert isinstance(results[6], asyncio.CancelledError)
    assert (results[7:], str(bad), window) == (["b0!", "b1!", "b2!"], "bad", "window!")


# -- what is refused


def bomb() -> bytes:
    """A FLAC of 40 KB that holds 200 s of silence."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(22050 * 200, "int16"), 22050, format="FLAC")
    assert len(file.getvalue()) < 2**17
    return file.getvalue()


def zeros() -> bytes:
    """A .npz of 40 KB with an array of 40 MB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mel.npy", npy(np.zeros((125_000, 80), np.float32)))
    return file.getvalue()


def nan() -> np.ndarray:
    return np.full((20, 80), np.nan, np.float32)


ANN = "mel?speaker=ann"
REFUSED = [  # query, body, content type, status, how the error begins
    (ANN, lambda: b"", "application/x-npy", 400, "body.npy: not a .npy array ("),
    (ANN, lambda: npy(mel(20))[:-1], "application/x-npy", 400, "body.npy: not a .npy array ("),
    (ANN, lambda: npy(mel(20)[:, :70]), "application/x-npy", 400, "body.npy: the mel has the shape [20, 70], but"),
    (ANN, lambda: npy(mel(20) * 40), "application/x-npy", 400, "body.npy: values 4.0"),
    (ANN, lambda: npy(nan()), "application/x-npy", 400, "body.npy: 1600 of 1600 values are NaN"),
    (ANN, lambda: npy(np.zeros((2, 9, 80), "float32")), "application/x-npy", 400, "body.npy: has 2 mels; send each"),
    (ANN, zeros, "application/x-npz", 400, "body.npz: not a .npz archive (its "),
    (
        ANN + "&mel_key=x",
        lambda: save({"a": mel(9), "b": mel(9)}),
        "application/x-safetensors",
        400,
        "body.safetensors",
    ),
    ("mel?speaker=eve", lambda: npy(mel(20)), "application/x-npy", 400, "speaker is 'eve', whom the model does not"),
    ("mel", lambda: npy(mel(20)), "application/x-npy", 400, "speaker: the model must be told who speaks; it knows ann"),
    ("wav?speaker=ann", lambda: recorded(20_000)[:90], "audio/wav", 400, "body.wav: "),
    ("wav?speaker=ann", lambda: b"hello", "audio/flac", 400, "body.flac: not an audio file"),
    ("likelihood?speaker=ann", lambda: recorded(900), "audio/wav", 400, "body.wav: too short"),
    (ANN, lambda: npy(mel(300)), "application/x-npy", 413, "3.5 s of audio; this server takes up to 3 s"),
    ("wav?speaker=ann", bomb, "audio/flac", 413, "200.0 s of audio; this server"),
    (ANN, lambda: bytes(2**20 + 1), "application/x-npy", 413, "the body has 1048577 bytes or more; this server"),
    (ANN, lambda: npy(mel(20)), "text/plain", 415, "the content type is 'text/plain'; give one of application/x-npy"),
    (ANN, lambda: npy(mel(20)), "audio/wav", 415, "the content type is 'audio/wav'; give one of application/x-npy"),
    (ANN + "&temperature=-1", lambda: b"", "application/x-npy", 422, "temperature: "),
    (ANN + "&temperature=nan", lambda: b"", "application/x-npy", 422, "temperature: "),
    (ANN + "&seed=x", lambda: b"", "application/x-npy", 422, "seed: "),
    (ANN + "&temprature=1", lambda: b"", "application/x-npy", 422, "temprature: "),
    (ANN + "&stream=1&format=flac", lambda: b"", "application/x-npy", 422, "format=flac cannot be streamed; give wav"),
    ("nothing", lambda: b"", "application/x-npy", 404, "POST /v1/nothing: Not Found"),
]


@pytest.mark.parametrize(("query", "body", "kind", "status", "start"), REFUSED, ids=[row[4] for row in REFUSED])
def test_what_is_refused(served, query, body, kind, status, start):
    response = post(served, query, body(), {"content-type": kind})
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    assert response.json()["error"].startswith(start)
    assert "\n" not in response.json()["error"]
    assert "/tmp" not in response.text
    assert served.client.get("/health").status_code == 200


def test_a_body_without_a_length(served):
    """It may come in pieces, and is cut off where it is too large."""
    body = npy(mel(20))
    pieces = (body[i : i + 1000] for i in range(0, len(body), 1000))
    assert len(array(post(served, f"{ANN}&format=npy", pieces))) == 20 * 256
    assert post(served, ANN, (bytes(2**16) for _ in range(2**8))).status_code == 413
    assert served.client.get("/v1/mel").status_code == 405
    assert served.client.get("/v1/mel").headers["allow"] == "POST"


def test_damaged_bodies_are_never_our_error(served):
    """Bits and cuts of valid files, by a seed."""
    rng = np.random.default_rng(0)
    kinds = {"npy": npy(mel(5)), "safetensors": save({"mel": mel(5)}), "pt": torch_bytes(mel(5))}
    kinds |= {"wav": recorded(2000), "flac": recorded(2000, "FLAC"), "ogg": recorded(2000, "OGG")}
    seen = set()
    for kind, body in kinds.items():
        for _ in range(20):
            spoilt = bytearray(body)
            place = int(rng.integers(min(len(spoilt), 200)))  # in the header
            spoilt[place] ^= 1 << int(rng.integers(8))
            spoilt = spoilt[: int(rng.integers(len(spoilt)))] if rng.random() < 0.2 else spoilt
            response = post(served, f"spectrogram?kind={kind}", bytes(spoilt))
            assert response.status_code in (200, 400, 413), (kind, response.text)
            seen.add(response.status_code)
    assert seen >= {200, 400}


@contextlib.contextmanager
def half(port):
    """A request of which half of the body has been sent; yields (socket, the other half)."""
    body = npy(mel(20))
    head = "POST /v1/mel?speaker=ann HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nConnection: close"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:100])
        yield connection, body[100:]


def received(connection) -> bytes:
    return b"".join(iter(lambda: connection.recv(2**16), b""))


def test_a_full_queue(vocoder):
    with serving.server(vocoder, Limits(2**20, 3.0, 1, 60.0)) as server:
        with half(server.port):
            until(lambda: server.gate.running == 1)
            refused = post(server, ANN, npy(mel(20)))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"] == "1 requests are waiting already; try again later"
            assert server.client.get("/ready").status_code == 200
        until(lambda: server.gate.running == 0)  # the half request has gone away
        assert 'status="499"' in server.client.get("/metrics").text


def test_the_time_is_limited(vocoder, monkeypatch):
    """For the body and for the computation; what is computed for nobody does not stop the server."""
    held = threading.Event()
    with serving.server(vocoder, Limits(2**20, 3.0, 4, 0.3)) as server:
        with half(server.port) as (connection, _):
            answer = received(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"the body was not here after 0.3 s, the limit of this server" in answer
        monkeypatch.setattr(vocoder, "synthesise", lambda *_, **__: [np.zeros(held.wait(60))])
        late = post(server, ANN, npy(mel(20)))
        assert (late.status_code, late.json()["error"]) == (
            504,
            "the audio was not there after 0.3 s, the limit of this server",
        )
        held.set()
        assert server.client.get("/health").status_code == 200


def test_what_nobody_waits_for_is_not_computed(vocoder, monkeypatch):
    held, computed = threading.Event(), []

    def synthesise(mels, *_, **__):
        computed.append(len(mels[0]))
        assert held.wait(60)
        return [np.zeros(256 * len(m), np.float32) for m in mels]

    monkeypatch.setattr(vocoder, "synthesise", synthesise)
    with serving.server(vocoder, max_wait=0) as server, ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, server, ANN, npy(mel(30)))
        until(lambda: computed == [30])
        with half(server.port) as (connection, rest):
            connection.sendall(rest)
            until(lambda: len(server.engine.turns) == 1)
        until(lambda: server.gate.running == 1)  # the second has gone away
        held.set()
        assert first.result().status_code == 200
        assert post(server, ANN, npy(mel(40))).status_code == 200
        assert computed == [30, 40]


def test_an_error_of_ours_is_told_and_the_server_goes_on(vocoder, monkeypatch, capsys):
    with serving.server(vocoder) as server:
        with monkeypatch.context() as patched:
            patched.setattr(vocoder, "synthesise", lambda *_, **__: 1 / 0)
            response = post(server, ANN, npy(mel(20)))
        assert (response.status_code, response.json()) == (500, {"error": "internal error; the server's log says more"})
        until(lambda: "ZeroDivisionError" in capsys.readouterr().err)
        assert post(server, ANN, npy(mel(20))).status_code == 200


# -- how it runs


def test_readiness_and_what_is_told(vocoder):
    with serving.server(vocoder, ready=False) as server:
        assert server.client.get("/health").json() == {"status": "alive"}
        waiting = server.client.get("/ready")
        assert (waiting.status_code, waiting.json()["ready"]) == (503, False)
        refused = post(server, ANN, npy(mel(20)))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"] == "the model is being compiled; try again later"
        server.engine.warm()
        server.gate.ready = True
        assert (server.client.get("/ready").status_code, server.client.get("/ready").json()["why"]) == (200, None)
        before = vocoder.compile_seconds
        for query in (ANN, f"{ANN}&stream=1", "wav?speaker=bob", "likelihood?speaker=bob"):
            for frames in (10, 64, 70, 97, 200):
                body, kind = (
                    (npy(mel(frames)), NPY)
                    if "mel" in query
                    else (recorded(256 * frames), {"content-type": "audio/wav"})
                )
                assert post(server, query, body, kind).status_code == 200
        assert vocoder.compile_seconds == before  # all was compiled before it was ready
        told = server.client.get("/v1/model").json()
        assert (told["mel"]["hash"], told["speakers"]["names"]) == (vocoder.mel.hash(), ["ann", "bob"])
        assert told["limits"] == {"bytes": 2**20, "seconds": 3.0, "queue": 16, "timeout": 60.0}
        text = server.client.get("/metrics").text
        assert 'fwn_requests_total{method="POST",route="/v1/mel",status="200"} 10.0' in text
        assert 'fwn_requests_total{method="POST",route="/v1/mel",status="503"} 1.0' in text
        assert 'fwn_request_seconds_count{route="/v1/likelihood"} 5.0' in text
        audio = float(re.search(r"^fwn_audio_seconds_total (\S+)", text, re.M)[1])
        assert audio == pytest.approx((2 * 441 + 441 + 5) * 256 / 22050)
        names = ("queue_length", "batch_size_sum", "real_time_factor", "compile_seconds", "requests_running", "ready")
        assert all(f"\nfwn_{name} " in text for name in names)
        server.gate.close("the server is shutting down")
        assert server.client.get("/ready").json() == {"ready": False, "why": "the server is shutting down"}


@pytest.fixture
def begun(tmp_path, compiled):
    """fwn.serve as a process of its own, which has begun to compile. Yields (process, port)."""
    run = serving.voice()
    checkpoints.write(tmp_path / "voice", run.config, run.mel, run.params, run.step)
    flags = ["--port=0", "--warm_up=64", "--batch_size=1", "--access_log"]
    with small.start("fwn.serve", f"--ckpt={tmp_path / 'voice'}", *flags, cache=compiled) as started:
        lines = iter(started.stdout.readline, "")
        yield started, next(int(found[1]) for line in lines if (found := re.search(r"127\.0\.0\.1:(\d+)/", line)))
        started.kill()


@pytest.fixture
def process(begun):
    """The same, when it is ready."""
    assert any(line.startswith("ready after ") for line in iter(begun[0].stdout.readline, ""))
    return begun


def test_it_ends_while_it_compiles(begun):
    begun[0].send_signal(signal.SIGTERM)
    assert begun[0].wait(60) == 0
    assert "Traceback" not in begun[0].stdout.read()


def test_it_ends_in_order(process):
    """After SIGTERM begun requests are finished and new ones refused; the exit code is 0."""
    started, port = process
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client, half(port) as (connection, rest):
        until(lambda: "fwn_requests_running 1.0" in client.get("/metrics").text)
        started.send_signal(signal.SIGTERM)
        until(lambda: client.get("/ready").status_code == 503)
        refused = client.post("/v1/mel?speaker=ann", content=npy(mel(20)), headers=NPY)
        assert (refused.status_code, refused.json()["error"]) == (503, "the server is shutting down")
        connection.sendall(rest)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(answer.partition(b"\r\n\r\n")[2]) == 44 + 2 * 20 * 256
    assert started.wait(60) == 0
    said = started.stdout.read()
    assert "shutting down: 1 requests to finish\n" in said
    assert re.search(r"POST /v1/mel 200 \d+\.\d+ s\n", said)
    assert "Traceback" not in said


def test_a_second_signal_ends_it_at_once(process):
    started, port = process
    with half(port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        until(lambda: "fwn_requests_running 1.0" in client.get("/metrics").text)
        started.send_signal(signal.SIGTERM)
        until(lambda: client.get("/ready").status_code == 503)
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 128 + signal.SIGTERM


# -- fuzzed from its own description


def test_requests_drawn_from_the_description(served):
    """No error of ours, and every answer is one that /openapi.json describes."""
    schemathesis = pytest.importorskip("schemathesis", reason="drawing requests needs schemathesis")
    from hypothesis import HealthCheck, Phase, Verbosity, given, settings

    description = schemathesis.openapi.from_url(f"{served.address}/openapi.json")
    checks = schemathesis.checks
    checked = [checks.not_a_server_error, *(checks.CHECKS.get_by_names(CONFORMANCE))]
    assert len(checked) == 4
    drawn = {}
    for operation in (found.ok() for found in description.get_all_operations()):

        @settings(
            max_examples=15,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case):
            response = case.call(timeout=60)
            drawn.setdefault(case.operation.path, set()).add(response.status_code)
            case.validate_response(response, checks=checked)

        ask()
    assert drawn.keys() == {"/health", "/ready", "/metrics", *(f"/v1/{name}" for name in ROUTES)}
    assert all(max(statuses) < 500 for statuses in drawn.values())
    assert 400 in drawn["/v1/mel"]


ROUTES = ("mel", "wav", "spectrogram", "likelihood", "model")
CONFORMANCE = ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
