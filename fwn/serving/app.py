"""The HTTP interface: routes, what they take and return. FastAPI makes /openapi.json of this file."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any, Literal

import jax
import numpy as np

from fwn import __version__
from fwn.audio import audio_file
from fwn.serving import bodies
from fwn.serving.answers import FORMATS, wav_header
from fwn.serving.engine import Asked, Engine
from fwn.serving.failures import answer_errors
from fwn.serving.gate import Gate
from fwn.serving.limits import Limits, Refused
from fwn.serving.metrics import Metrics

# The page of fwn.listening has the same style; its file is read, not copied.
ASSETS = {
    "style.css": ("fwn.listening", "text/css"),
    "serve.css": ("fwn.serving", "text/css"),
    "serve.js": ("fwn.serving", "text/javascript"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src blob:; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HOTTEST = 10.0  # highest temperature


def build(engine: Engine, limits: Limits, metrics: Metrics, log: bool = False) -> Gate:
    """The ASGI application. Work is refused until its `ready` is set. log: a line for each request."""
    from fastapi import FastAPI, Query, Request, Response
    from fastapi.responses import StreamingResponse
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.exceptions import HTTPException

    class Failure(BaseModel):
        """What was wrong, and what to do."""

        error: str

    class Given(BaseModel):
        """How the body is to be read."""

        model_config = ConfigDict(extra="forbid")
        speaker: str | None = Field(None, max_length=10_000, description="A name, or numbers as in 0.1,-0.2.")
        kind: Literal["npy", "npz", "pt", "safetensors", "wav", "flac", "ogg", "mp3"] | None = Field(
            None, description="What the body is; by default by its Content-Type."
        )
        mel_key: str | None = Field(None, max_length=200, description="Name of the mel in a file of several arrays.")

    class Wanted(Given):
        """And what is to be made of it."""

        temperature: Annotated[float, Field(ge=0, le=HOTTEST, allow_inf_nan=False)] | None = Field(
            None, description="Standard deviation of the noise; by default the model's."
        )
        seed: int = Field(0, ge=0, le=2**32 - 1, description="Of the noise: the same seed gives the same audio.")
        format: Literal["wav", "flac", "pcm", "npy"] = Field("wav", description="pcm: 16 bit, little-endian, mono.")
        stream: bool = Field(False, description="Send audio while it is computed; for wav and pcm.")

    class Alive(BaseModel):
        status: Literal["alive"] = "alive"

    class Ready(BaseModel):
        ready: bool
        why: str | None

    class Spectrogram(BaseModel):
        frames: int
        seconds_per_frame: float
        low: float = Field(description="Value of silence.")
        high: float
        mel: list[list[float]] = Field(description="[frames][bands], the lowest band first.")

    class Likelihood(BaseModel):
        frames: int
        seconds_per_frame: float
        nats_per_sample: float = Field(description="log p(audio | mel), divided by the number of samples.")
        nats: list[float] = Field(description="The same for the samples of each mel frame.")

    class Model(BaseModel):
        fwn: str
        system: str
        parameters: int
        step: int
        backend: str
        mel: dict[str, Any] = Field(description="The mel contract.")
        speakers: dict[str, Any]
        temperature: float = Field(description="Default.")
        low_temperature: float | None
        level_temperatures: list[float] | None
        denoise: float
        limits: dict[str, float]
        batch: dict[str, list[int]] = Field(description="Padded lengths in frames, and batch sizes.")

    vocoder, contract = engine.vocoder, engine.vocoder.mel
    decoding = asyncio.Semaphore(1)  # one body at a time, so that memory stays bounded
    both = bodies.MELS | bodies.RECORDINGS

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.turns.start()
        yield
        await engine.turns.stop()

    told: dict[int | str, dict[str, Any]] = {
        400: {"model": Failure, "description": "The body is damaged, not a mel of the contract, or not speech."},
        408: {"model": Failure, "description": "The body did not come in time."},
        413: {"model": Failure, "description": "Too many bytes, or too many seconds of audio."},
        415: {"model": Failure, "description": "Not a type of body that is read."},
        422: {"model": Failure, "description": "A parameter is unknown, or out of its range."},
        503: {"model": Failure, "description": "Not ready, shutting down, or too many requests: see Retry-After."},
        504: {"model": Failure, "description": "Not computed in time."},
    }
    app = FastAPI(
        title="fwn",
        version=__version__,
        summary="Speech from mel-spectrograms, by one voice.",
        docs_url=None,  # their scripts are on another server
        redoc_url=None,
        lifespan=lifespan,
    )

    answer_errors(app)

    async def decoded(request: Request, given: Given, kinds: Mapping[str, Any]) -> tuple[np.ndarray | None, np.ndarray]:
        """(audio [F · hop], or None for a mel; mel [F, M]) of a request."""
        kind = bodies.kind_of(request.headers.get("content-type"), given.kind, kinds)
        body = await bodies.read(request.stream(), request.headers.get("content-length"), limits)
        async with decoding:
            if kind in bodies.MELS:
                return None, await asyncio.to_thread(bodies.mel, body, kind, contract, limits, given.mel_key)
            return await asyncio.to_thread(bodies.recording, body, kind, contract, limits)

    async def speech(request: Request, wanted: Wanted, kinds: Mapping[str, Any]) -> Response:
        form, speaker = FORMATS[wanted.format], engine.speaker(wanted.speaker)
        if wanted.stream and not form.streams:
            raise Refused(422, f"format={wanted.format} cannot be streamed; give wav or pcm, or leave stream out")
        _, mel = await decoded(request, wanted, kinds)
        temperature = vocoder.temperature if wanted.temperature is None else wanted.temperature
        asked, rate = Asked(mel, temperature, wanted.seed, speaker), contract.sample_rate
        headers = {"x-sample-rate": str(rate)}
        if wanted.stream:
            return StreamingResponse(streamed(asked, wanted.format), media_type=form.content_type, headers=headers)
        audio = await engine.speak(asked)
        count(audio)
        headers["x-saturated-samples"] = str(audio_file.pcm16(audio)[1])  # of npy: samples beyond full scale
        content = await asyncio.to_thread(form.encode, audio, rate)
        return Response(content, media_type=form.content_type, headers=headers)

    async def streamed(asked: Asked, form: str) -> AsyncIterator[bytes]:
        if form == "wav":
            yield wav_header(len(asked.mel) * contract.hop_length, contract.sample_rate)
        async for piece in engine.pieces(asked):
            count(piece)
            yield FORMATS["pcm"].encode(piece, contract.sample_rate)

    def count(audio: np.ndarray) -> None:
        metrics.speech(len(audio) / contract.sample_rate, audio_file.pcm16(audio)[1])

    def takes(kinds: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
        """The body in the OpenAPI description, which FastAPI cannot make of a request that is read in pieces."""
        types = [*(names[0] for names in kinds.values()), bodies.ANY]
        schema = {"type": "string", "format": "binary"}
        return {"requestBody": {"required": True, "content": {name: {"schema": schema} for name in types}}}

    audio_response: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "The speech, frames × hop samples.",
            "content": {f.content_type: {"schema": {"type": "string", "format": "binary"}} for f in FORMATS.values()},
        },
        **told,
    }

    @app.post("/v1/mel", response_class=Response, responses=audio_response, openapi_extra=takes(bodies.MELS))
    async def speech_of_a_mel(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
        """Speech of a mel [frames, bands] or [bands, frames], by the contract that /v1/model shows."""
        return await speech(request, wanted, bodies.MELS)

    @app.post("/v1/wav", response_class=Response, responses=audio_response, openapi_extra=takes(bodies.RECORDINGS))
    async def copy_of_a_recording(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
        """Speech of the mel of a recording, at any rate, as one of fwn.sample."""
        return await speech(request, wanted, bodies.RECORDINGS)

    @app.post("/v1/spectrogram", responses=told, openapi_extra=takes(both))
    async def spectrogram_of_a_body(request: Request, given: Annotated[Given, Query()]) -> Spectrogram:
        """The mel of a recording, or a mel as it is."""
        _, mel = await decoded(request, given, both)
        low, high = contract.value_range
        rows = await asyncio.to_thread(lambda: np.round(mel.astype(float), 4).tolist())
        return Spectrogram(frames=len(mel), seconds_per_frame=per_frame, low=low, high=high, mel=rows)

    @app.post("/v1/likelihood", responses=told, openapi_extra=takes(bodies.RECORDINGS))
    async def likelihood_of_a_recording(request: Request, given: Annotated[Given, Query()]) -> Likelihood:
        """How likely the model finds a recording, given the mel of it, along the time."""
        speaker = engine.speaker(given.speaker)
        audio, mel = await decoded(request, given, bodies.RECORDINGS)
        assert audio is not None  # only of a mel
        nats = (await engine.nats(audio, mel, speaker)).astype(float)
        return Likelihood(
            frames=len(nats), seconds_per_frame=per_frame, nats_per_sample=nats.mean(), nats=nats.tolist()
        )

    per_frame = contract.hop_length / contract.sample_rate
    model = Model(
        fwn=__version__,
        system=vocoder.config.system,
        parameters=vocoder.n_params,
        step=vocoder.step,
        backend=jax.default_backend(),
        mel=contract.to_dict() | {"hash": contract.hash()},
        speakers={"kind": vocoder.speakers.kind, "names": vocoder.speakers.names, "size": vocoder.speakers.size},
        temperature=vocoder.temperature,
        low_temperature=vocoder.low_temperature,
        level_temperatures=vocoder.level_temperatures,
        denoise=vocoder.denoise,
        limits=dict(limits._asdict()),
        batch={"lengths": engine.lengths, "sizes": engine.sizes},
    )

    @app.get("/v1/model")
    async def the_model() -> Model:
        """The model, its mel contract and the limits of this server."""
        return model

    @app.get("/health")
    async def health() -> Alive:
        """200 as long as the process answers."""
        return Alive()

    @app.get("/ready", responses={503: {"model": Ready, "description": "Not yet compiled, or shutting down."}})
    async def ready(response: Response) -> Ready:
        """200 if work is accepted."""
        response.status_code = 200 if gate.ready else 503
        return Ready(ready=gate.ready, why=None if gate.ready else gate.why)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        policy = {"content-security-policy": POLICY}
        return Response(_file("fwn.serving", "serve.html"), media_type="text/html", headers=policy)

    @app.get("/pages/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404, "Not Found")
        package, kind = ASSETS[name]
        return Response(_file(package, name), media_type=kind, headers={"cache-control": "no-cache"})

    metrics.show("fwn_queue_length", "Batches, windows and likelihoods that wait", lambda: len(engine.turns))
    metrics.show("fwn_compile_seconds", "Time of compilation, in all", lambda: vocoder.compile_seconds)
    gate = Gate(app, limits, metrics, {*app.openapi()["paths"], "/", "/openapi.json"}, log)
    return gate


def _file(package: str, name: str) -> str:
    """A file of a package's pages."""
    return (resources.files(package) / "pages" / name).read_text(encoding="utf-8")
