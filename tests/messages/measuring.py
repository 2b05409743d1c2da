"""Errors of fwn.evaluate, fwn.compare and fwn.bench."""

from . import BENCH, COMPARE, EVALUATE, Row, table, write

CKPTS = "--ckpts={run} --data={corpus} "
ROWS = [
    Row(
        EVALUATE,
        "--ckpt={run}",
        "--data is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(
        EVALUATE,
        "--ckpt={run} --data={corpus} more",
        "unexpected argument 'more': all settings are flags (--help lists them)",
    ),
    Row(
        EVALUATE,
        "--ckpt={run} --data={corpus} --temperature=nan",
        "--temperature=nan: must be a finite number, 0 or more",
    ),
    Row(
        EVALUATE,
        "--ckpt={run} --data={corpus} --utterances=-1",
        "flag --utterances=-1: -1 is not a non-negative integer (--help lists the flags)",
        code=2,
    ),
    Row(
        EVALUATE,
        "--ckpt={here}/none --data={corpus}",
        "{here}/none: no such folder; give a workdir of fwn.train or an output folder of fwn.convert",
    ),
    Row(EVALUATE, "--ckpt={run} --data={here}/none", "{here}/none: no such folder; give one made by data_prep.prepare"),
    Row(
        EVALUATE,
        "--ckpt={run} --data={untested}",
        "{untested}: no utterance is held out (its test split is empty); prepare it with one",
    ),
    Row(
        EVALUATE,
        "--ckpt={run} --data={hifigan}",
        (
            (
                "{run} has the mel contract flowavenet (a13bd5d9b250), but {hifigan} was prepared with hifigan "
                "(3c96768fd3c8); prepare it again in another folder\n"
            )
            + table("flowavenet", "hifigan")
        ),
    ),
    Row(EVALUATE, "--ckpt={run} --data={corpus} --output={here}/file", "File exists: {here}/file", write("file", "x")),
    Row(COMPARE, "", "nothing to compare; give --ckpts=DIR,DIR,… with --data, or --untrained=FILE,FILE,…"),
    Row(COMPARE, "more", "unexpected argument 'more': all settings are flags (--help lists them)"),
    Row(COMPARE, "--ckpts={run}", "--ckpts are measured on held-out recordings; give their data set too: --data=DIR"),
    Row(
        COMPARE,
        "--ckpts={run},{here}/run --data={corpus}",
        "--ckpts: {run} and {here}/run are both called 'run'; rename one of them",
    ),
    Row(
        COMPARE,
        "--ckpts={run},{here}/none --data={corpus}",
        "{here}/none: no such folder; give a workdir of fwn.train or an output folder of fwn.convert",
    ),
    Row(COMPARE, "--ckpts={run} --data={here}/none", "{here}/none: no such folder; give one made by data_prep.prepare"),
    Row(
        COMPARE,
        "--ckpts={run} --data={hifigan}",
        (
            (
                "{run} has the mel contract flowavenet (a13bd5d9b250), but {hifigan} was prepared with hifigan "
                "(3c96768fd3c8); prepare it again in another folder\n"
            )
            + table("flowavenet", "hifigan")
        ),
    ),
    Row(COMPARE, CKPTS + "--temperature=nan", "--temperature=nan: must be a finite number, 0 or more"),
    Row(COMPARE, CKPTS + "--output={here}/file", "File exists: {here}/file", write("file", "x")),
    Row(
        COMPARE,
        "--untrained=none.py",
        "none.py: no such file; give an experiment, for example experiments/base.py or base",
    ),
    Row(
        COMPARE,
        "--untrained=nnoe",
        "'nnoe' is neither a file nor an experiment of fwn; did you mean 'tiny_clarinet'?; there are: "
        "base, clarinet, demo, finetune, flowavenet_causal, flowavenet_no_split, lite, lj_mini, "
        "lj_mini_predictor, lj_mini_wavenet, other_mel, parallel_wavenet, tiny, tiny_clarinet, "
        "tiny_parallel_wavenet, tiny_wavenet, tiny_wavenet_mol, wavenet_gaussian, wavenet_mol",
    ),
    Row(
        COMPARE,
        "--untrained=lite:base",
        "lite:base: lite.py takes no argument after a colon; leave it out",
    ),
    Row(
        COMPARE,
        "--untrained={here}/mine.py",
        "{here}/mine.py: has no get_config(); give a file like experiments/base.py",
        write("mine.py", "x = 1\n"),
    ),
    Row(
        COMPARE,
        "--untrained=base,experiments/base.py",
        "--untrained: base and experiments/base.py are both called 'base'; rename one of them",
    ),
    Row(
        BENCH,
        "",
        "--config is missing; give it (--help lists the flags)",
        code=2,
    ),
    Row(BENCH, "--config=tiny more", "unexpected argument 'more': all settings are flags (--help lists them)"),
    Row(BENCH, "--config=tiny --only=data", "--only=data measures a data set; name it: --data=DIR"),
    Row(BENCH, "--config=tiny --seconds=5 --seconds=nan", "--seconds=nan: it must be a positive number, as 5"),
    Row(BENCH, "--config=tiny --seconds=0", "--seconds=0: it must be a positive number, as 5"),
    Row(
        BENCH,
        "--config=tiny --only=speed",
        "flag --only=speed: value should be one of <sampling|training|data> (--help lists the flags)",
        code=2,
    ),
    Row(BENCH, "--config=tiny --config.parallel=pjit", "config.parallel is 'pjit'; it must be 'jit', 'zero' or 'pmap'"),
]
