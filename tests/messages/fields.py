"""Errors of the fields of a config, on the command line of fwn.train and in its file."""

from collections.abc import Callable

from fwn.mel import PRESETS

from . import TRAIN, Place, Row

COUNTS = "frames", "batch_size", "num_steps", "log_every", "eval_every", "eval_batches", "save_every", "max_skipped"


def tiny(args: str, message: str, name: str = "tiny") -> Row:
    return Row(TRAIN, f"--workdir={{here}}/new --config={name} {args}", message)


def mine(*lines: str) -> Callable[[Place], None]:
    """A config file: experiments/tiny.py with changes."""

    def make(place: Place) -> None:
        body = ["c = tiny.get_config().unlock()", *lines, "return c"]
        text = "\n".join(f"    {line}" for line in body)
        (place.here / "mine.py").write_text(f"from experiments import tiny\n\n\ndef get_config():\n{text}\n")

    return make


def cast(field: str, value: str, old: str, new: str = "ml_collections.config_dict.config_dict.ConfigDict") -> Row:
    """A field of another type, which ml_collections refuses."""
    name = field.rpartition(".")[2]
    message = (
        f"--config: TypeError: Could not override field '{name}' (reference). {value} is of original type <class "
        f"'{old}'> and cannot be casted to type <class '{new}'> ({{here}}/mine.py, line 6) (--help lists the flags)"
    )
    change = mine(f"c.{field} = {old}({value!r})")
    return Row(TRAIN, "--workdir={here}/new --config={here}/mine.py", message, change, code=2)


def file(line: str, message: str) -> Row:
    return Row(TRAIN, "--workdir={here}/new --config={here}/mine.py", message, mine(line))


ROWS = [
    tiny("--config.system=flow", "config.system is 'flow'; there are: clarinet, flowavenet, parallel_wavenet, wavenet"),
    tiny(
        "--config.mel=flowavnet",
        f"config.mel: no preset is called 'flowavnet'; did you mean 'flowavenet'? (presets: {', '.join(PRESETS)})",
    ),
    tiny("--config.mel=none.json", "config.mel=none.json: no such file"),
    tiny("--config.parallel=pjit", "config.parallel is 'pjit'; it must be 'jit', 'zero' or 'pmap'"),
    tiny(
        "--config.optimizer.kind=adamw",
        "--config: optimizer.kind is 'adamw'; there are: adam, muon; did you mean 'adam'?",
    ),
    tiny("--config.teacher=runs/a", "config.teacher is 'runs/a', but flowavenet learns without one; leave it out"),
    tiny(
        "--config.model.upsample_strides=(4,4)",
        "--config: model.upsample_strides=(4, 4) make 16 samples per mel frame, but the mel contract "
        "has a hop of 256; give strides whose product is 256",
    ),
    tiny(
        "--config.model.n_block=13",
        "config.model: n_block=13 squeezes time by 2^13, but a crop of config.frames=16 has 4096 samples; lower "
        "n_block, or raise config.frames",
    ),
    tiny(
        "--config.model.n_block=0 --config.model.prediction.order=0",
        "config.model: n_block is 0 and prediction.order is 0, so there is nothing to train; set n_block to 8, or "
        "prediction.order to 256",
    ),
    tiny("--config.model.conditioner=frame", "config.model: conditioner is 'frame'; it is 'squeezed' or 'frames'"),
    tiny("--config.model.gradient=fast", "config.model: gradient is 'fast'; it is 'plain' or 'remat' or 'invert'"),
    tiny(
        "--config.model.dtype=float8",
        "config.model: dtype is 'float8'; there are: bfloat16, float16, float32, or none for float32",
    ),
    tiny(
        "--config.model.channels=0",
        "config.model: channels is 0; it must be a whole number, at least 1, or one such number for "
        "each block, as in (64,96)",
    ),
    tiny(
        "--config.model.channels=(8,8,8)",
        "config.model: channels is (8, 8, 8); it must be one number, or one for each of the 8 blocks",
        "lite",
    ),
    tiny(
        "--config.model.odd=True --config.model.channels=9",
        "config.model: channels is 9; of an odd model half are odd: it must be even",
    ),
    tiny("--config.model.s_max=0.", "config.model: s_max is 0.0; it must be a positive number, or none"),
    tiny(
        "--config.model.prediction.order=0",
        "config.model.autoregression: coefficients is 6 and config.model.prediction.order is 0; "
        "autoregression needs linear prediction: set order to 256, or coefficients to 0",
        "lj_mini",
    ),
    tiny(
        "--config.model.prediction.order=-1",
        "config.model.prediction: order is -1; it must be a whole number, at least 1",
    ),
    tiny(
        "--config.model.prediction.order=12",
        "config.model.prediction: first_order is 16; it must be below the order, 12",
    ),
    tiny(
        "--config.model.prediction.subframe=100",
        "config.model.prediction: subframe is 100, which does not divide a mel frame of 256 samples "
        "(flowavenet); give a divisor, as 64",
    ),
    tiny(
        "--config.model.autoregression.block=100",
        "config.model.autoregression: block is 100, which does not divide a mel frame of 256 samples; "
        "give a divisor, as 16",
        "lj_mini",
    ),
    tiny(
        "--config.model.autoregression.coefficients=100",
        "config.model.autoregression: coefficients is 100; a block of 16 samples has no more than that",
    ),
    tiny(
        "--config.model.autoregression.taps=-1",
        "config.model.autoregression: taps is -1; it must be a whole number, at least 0",
        "lj_mini",
    ),
    *(tiny(f"--config.{name}=0", f"--config: {name} is 0; it must be a whole number, at least 1") for name in COUNTS),
    tiny(
        "--config.optimizer.halve_every=0",
        "--config: optimizer.halve_every is 0; it must be a whole number, at least 1",
    ),
    tiny("--config.optimizer.warmup=-1", "--config: optimizer.warmup is -1; it must be 0 or more steps"),
    tiny("--config.seed=-1", "--config: seed is -1; it must be a whole number in 0 … 2^32 - 1"),
    tiny("--config.ema_decay=1.", "--config: ema_decay is 1.0; it must be at least 0 (no averaging) and below 1"),
    tiny("--config.mel_noise=-1", "--config: mel_noise is -1.0; it must be 0 (none) or more"),
    tiny("--config.max_spike=-1", "--config: max_spike is -1.0; it must be 0 (no limit) or more"),
    tiny("--config.max_returns=-1", "--config: max_returns is -1; it must be a whole number, 0 or more"),
    tiny("--config.max_seconds=-1", "--config: max_seconds is -1; it must be 0 (no limit) or more"),
    tiny(
        "--config.model.distribution=gausian",
        ("config.model.distribution is 'gausian'; there are: gaussian, mixture_of_logistics; did you mean 'gaussian'?"),
        "tiny_wavenet",
    ),
    tiny(
        "--config.model.prediction.order=12",
        "config.model.prediction: first_order is 16; it must be below the order, 12",
        "tiny_wavenet_mol",
    ),
    tiny(
        "--config.loss.samples=0",
        "config.loss.samples is 0; it must be a whole number, at least 1",
        "tiny_parallel_wavenet",
    ),
    tiny(
        "--config.batch_size=1 --config.parallel=jit",
        ("config.loss.contrastive needs the mel of another example: a config.batch_size of 2 or more, not 1"),
        "tiny_parallel_wavenet",
    ),
    tiny(
        "--config.loss.kl=-1.",
        "config.loss.kl is -1.0; it must be a number, 0 for a term that is left out",
        "tiny_clarinet",
    ),
    tiny(
        "--config.model.prediction.order=32",
        "config.model.prediction: the mixture of logistics is of 16-bit audio, which excitation is not; "
        "leave its order at 0, or choose distribution gaussian",
        "tiny_wavenet_mol",
    ),
    tiny(
        "--config.model.stacks=(0,)",
        "config.model: stacks is (0,); it must be whole numbers, each at least 1, as in (1,1)",
        "tiny_clarinet",
    ),
    file("c.model.n_blok = 3", "config.model: no such field: 'n_blok'; did you mean 'n_block'?"),
    file(
        "c.model.upsample_strides = (16, 0)",
        "--config: model.upsample_strides is (16, 0); it must be whole numbers in 1 … 256, as in (16,16)",
    ),
    cast("model.upsample_strides", "256", "int", "tuple"),
    cast("model", "3", "int"),
    file("c.optimizer = None", "--config: optimizer is None; it must have fields, as in experiments/base.py"),
    cast("loss", "2.5", "float"),
    cast("model.prediction", "7", "int"),
    file("c.batch_sze = 3", "--config: no such field: 'batch_sze'; did you mean 'batch_size'?"),
    file(
        "c.optimizer.learning_rte = 3",
        "--config: optimizer: no such field: 'learning_rte'; did you mean 'learning_rate'?",
    ),
    file("c.loss.klo = 3", "config.loss: no such field: 'klo'; flowavenet is trained by likelihood alone and has none"),
    file("del c.seed", "--config: missing seed; start from experiments/base.py"),
    file("del c.model.upsample_strides", "--config: missing model.upsample_strides; start from experiments/base.py"),
    file("c.eval_batches = 10**8", "--config: eval_batches is 100000000; it must be at most 10,000"),
    file("c.optimizer.learning_rate = 1e30", "--config: optimizer.learning_rate is 1e+30; it must be in 0 … 1"),
    file("c.optimizer.max_grad_norm = float('nan')", "--config: optimizer.max_grad_norm is nan; it must be positive"),
    file("c.max_seconds = None", "--config: max_seconds is None; it must be a number"),
    cast("verify_data", "False", "str", "bool"),
    Row(
        TRAIN,
        "--workdir={here}/new --config={here}/mine.py",
        "config.loss: missing frame; start from experiments/clarinet.py",
        mine("from experiments import tiny_clarinet", "c = tiny_clarinet.get_config().unlock()", "del c.loss.frame"),
    ),
]
