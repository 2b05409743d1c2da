"""One training step of any system, and its state."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from fwn.models.weight_forms import ready
from fwn.nn.conv import draw
from fwn.nn.weight_norm import fold_weight_norm, updated
from fwn.systems import predictor
from fwn.systems.base import System, per_example
from fwn.training import freeze, guard
from fwn.training.optimizer import clip_factor, optimizer, schedule, select
from fwn.training.parallel import Mean, Parallel
from fwn.training.pooling import pooled, pools, spread, trees
from fwn.xla.platform import known
from fwn.xla.scheduling import computed
from fwn.xla.sums import norm

Array = jax.Array
MEL_NOISE = 0x6D656C  # folded into the step's key, so that other noise stays as it is
PARTS = predictor.NAME, predictor.AUTOREGRESSION, "model"  # parts of a model's weights


@flax.struct.dataclass
class State:
    """step: number of steps, skipped ones included. ema: averaged weights, or (). skipped: skipped steps in a row."""

    step: Array
    params: Any
    ema: Any
    opt: Any
    skipped: Array
    skipped_in_all: Array
    guard: Any  # guard.Guard; () in checkpoints from before there was one

    def split(self) -> tuple[Any, Any]:
        """(weights to sample from, everything else): the two parts of a checkpoint."""
        if self.ema == ():
            return self.params, dataclasses.replace(self, params=())
        return self.ema, dataclasses.replace(self, ema=())

    @staticmethod
    def merge(weights: Any, rest: "State") -> "State":
        return dataclasses.replace(rest, **{"params" if rest.params == () else "ema": weights})


Step = Callable[..., tuple[State, dict[str, Array]]]


def complete(config: Any, params: Any) -> State:
    """The state before step 0 for these weights; everything else is zero."""
    zero = jnp.zeros((), jnp.int32)
    ema = params if config.ema_decay else ()
    return State(zero, params, ema, optimizer(config.optimizer).init(params), zero, zero, guard.new())


def places(state: State, parallel: Parallel) -> State:
    """Shardings: weights are replicated; moments and average, which gradients do not need, may be sharded."""
    replicated = jax.tree.map(lambda _: parallel.replicated, state)
    return dataclasses.replace(replicated, ema=parallel.sharding_of(state.ema), opt=parallel.sharding_of(state.opt))


def carried(config: Any, parallel: Parallel, state: State) -> State:
    """The state as training carries it from step to step: pooled, if `pools(config)`. Arrays or their shapes.

    Both states are in memory until the given one is dropped. One that is pooled stays as it is.
    """
    return _reshaped(pooled, parallel, state) if pools(config) and isinstance(state.params, dict) else state


def stored(parallel: Parallel, state: State) -> State:
    """The inverse of `carried`: the state as checkpoints and evaluation have it. One that is not pooled stays."""
    return state if isinstance(state.params, dict) else _reshaped(spread, parallel, state)


def _reshaped(form: Callable[[Any], Any], parallel: Parallel, state: State) -> State:
    shapes = jax.eval_shape(form, state)
    if isinstance(state.step, jax.ShapeDtypeStruct):
        return _placed(shapes, parallel)
    return jax.jit(form, out_shardings=places(shapes, parallel))(state)


def _placed(shapes: State, parallel: Parallel) -> State:
    """The shapes of a state, with shardings."""
    place = places(shapes, parallel)
    return jax.tree.map(lambda a, place: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), shapes, place)


def abstract(system: System, config: Any, parallel: Parallel, batch: Any, frozen: Any = ()) -> State:
    """Shapes, types and shardings of a state, to read a checkpoint into."""
    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(lambda *args: complete(config, system.init(key, args[0], {}, args[1])), batch, frozen)
    return _placed(shapes, parallel)


def parts(names: Iterable[str]) -> set[str]:
    """The PARTS that these outermost names of a model's weights belong to."""
    return {name if name in predictor.FIELDS else PARTS[-1] for name in names}


def shapes(system: System, config: Any, batch: Any, frozen: Any = ()) -> Any:
    """Shapes and types of the weights before step 0. `batch`: of this process."""
    return jax.eval_shape(
        lambda batch, frozen: system.init(jax.random.key(config.seed), batch, {}, frozen), batch, frozen
    )


def initial(
    system: System, config: Any, parallel: Parallel, batch: Any, frozen: Any = (), weights: Any = None
) -> State:
    """The state before step 0. `batch`, this process's part of a real one, initialises ActNorm, over all devices.

    weights: those to begin with, None or a tree with some of the arrays (nn.weight_norm.fitted); ActNorm is initialised
    for these.
    """
    key, weights = jax.random.key(config.seed), weights or {}
    expected = shapes(system, config, batch, frozen)
    params = parallel.replicate(weights)
    if flatten_dict(weights).keys() != flatten_dict(expected).keys():
        given = jax.device_get(fold_weight_norm(weights))  # NumPy's, which all processes can put on all devices
        drawn = updated(draw(expected, np.random.default_rng(config.seed)), given)
        begin = parallel.jit(lambda given, batch: system.init(key, batch, *given))
        params = updated(begin((drawn, frozen), parallel.sharded(batch)), params)
    place = places(jax.eval_shape(partial(complete, config), params), parallel)
    return jax.jit(partial(complete, config), out_shardings=place, donate_argnums=0)(params)


def noisy(batch: Any, key: Array, deviation: float, channels: int = 0) -> Any:
    """The batch with normal noise of this standard deviation on its mels, the same on any number of devices.

    channels: of the speaker, after those of the mel; they stay as they are.
    """
    if not deviation:
        return batch
    frames, bands = batch["mel"].shape[1:]
    shape = frames, bands - channels
    keys = per_example(jax.random.fold_in(key, MEL_NOISE), batch["index"])
    noise = jax.vmap(lambda k: jax.random.normal(k, shape, batch["mel"].dtype))(keys)
    return batch | {"mel": batch["mel"] + deviation * jnp.pad(noise, ((0, 0), (0, 0), (0, channels)))}


def train_step(system: System, config: Any, platform: str | None = None) -> Step:
    """step(state, frozen, batch, mean) -> (state, metrics), for devices of this platform; None: of any.

    The state may be `carried`. With a loss or gradient that is not finite, or a loss over guard.limit, only counts
    change. On a GPU, flows are compiled one by one (models.weight_forms.ready), for fewer kernels, if the gradient is
    "plain".
    """
    one_by_one = platform == "gpu" and config.model.get("gradient") == "plain"

    def loss(params: Any, *others: Any) -> Any:
        plain = spread(trees(fold_weight_norm, params))
        return system.loss(ready(plain, config.model.get("dtype")) if one_by_one else plain, *others)

    tx, rate = optimizer(config.optimizer), schedule(config.optimizer)

    def step(state: State, frozen: Any, batch: Any, mean: Mean) -> tuple[State, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        batch = noisy(batch, key, config.mel_noise, system.speakers.channels)
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, metrics), grads = mean(gradient)(state.params, frozen, batch, key)
        grads = freeze.kept(config.freeze, grads, jax.tree.map(jnp.zeros_like, grads))
        size = norm(grads)
        most = guard.limit(state.guard, config.max_spike)
        usual = jnp.isfinite(value) & jnp.isfinite(size) & (value <= most)
        ok, factor = computed(usual, clip_factor(size, config.optimizer))
        updates, opt = tx.update(jax.tree.map(lambda g: factor * g, grads), state.opt, state.params, ok=ok)
        params = select(ok, optax.apply_updates(state.params, updates), state.params)
        params = freeze.kept(config.freeze, params, state.params)  # of a run that trained them before, moments are left
        ema = state.ema
        if config.ema_decay:  # a shorter average over the first steps, to forget the initialisation
            (params,) = computed(params)
            decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema = select(ok, optax.incremental_update(params, ema, 1 - decay), ema)
            ema = freeze.kept(config.freeze, ema, state.ema)
        taken = state.step - state.skipped_in_all  # steps taken before this one, for the schedule
        skipped = jnp.where(ok, 0, state.skipped + 1)
        watched = select(ok, guard.followed(state.guard, value), state.guard)
        state = State(state.step + 1, params, ema, opt, skipped, state.skipped_in_all + (skipped > 0), watched)
        metrics |= {"loss": value, "loss_limit": most, "gradient_norm": size, "rate": rate(taken), "skipped": skipped}
        return state, metrics | {"skipped_in_all": state.skipped_in_all}

    return known(platform)(step)


def compiled_step(system: System, config: Any, parallel: Parallel, state: State, batch: Any, frozen: Any = ()) -> Step:
    """The compiled step: (state, frozen, `Parallel.batch` of this process's part of a batch) -> (state, metrics)."""
    step = parallel.compile(train_step(system, config, parallel.platform), donate=True, carried=state)
    return parallel.compile_now(step, state, frozen, parallel.batch(batch))


def held_out(system: System, config: Any) -> Callable[..., dict[str, Array]]:
    """evaluate(params, frozen, batch, mean) -> loss and metrics, with the same noise in every call."""

    def evaluate(params: Any, frozen: Any, batch: Any, mean: Mean) -> dict[str, Array]:
        loss, metrics = mean(system.loss)(params, frozen, batch, jax.random.key(config.seed))
        return {"loss": loss, **metrics}

    return evaluate
