"""What a new run begins with: the weights of other runs and voices (--init_from), as far as they fit its model."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fwn.config import Speakers
from fwn.errors import UserError
from fwn.mel import MelContract, difference
from fwn.nn.weight_norm import fitted
from fwn.terminal import say
from fwn.training.checkpoints import Run
from fwn.training.step import PARTS, parts

SPEAKER = ("speaker", "embedding"), ("speaker", "projection")  # arrays of nn/speaker.py
SHOWN = 10  # arrays that are not taken


def joined(
    sources: Sequence[tuple[str, Run]], wanted: Collection[str], mel: MelContract, told: Speakers
) -> dict[str, Any]:
    """The wanted parts of the models, each from the first that has it. sources: (name, model).

    told: the speakers of the new model. Those that a source knows too keep their vectors, others begin with the mean.
    Raises UserError if a mel contract is another one, or if none has these parts.
    """
    found: dict[str, Any] = {}
    for name, (its_config, its_mel, weights, step) in sources:
        if its_mel.hash() != mel.hash():
            raise UserError(
                f"--init_from={name} has the mel contract {its_mel.title}, config.mel is {mel.title}; they must "
                f"be equal\n{difference(its_mel, mel)}"
            )
        new = (parts(weights) & set(wanted)) - parts(found)
        taken = {key: node for key, node in weights.items() if parts([key]) <= new}
        found |= _for_speakers(taken, Speakers(its_config), told)
        say(f"beginning with the weights of {name}, step {step}: {', '.join(sorted(new)) or 'nothing new'}")
    if not found:
        raise UserError(
            f"--init_parts={','.join(wanted)}: {_all(sources)} has none of these parts; name others of "
            f"{', '.join(PARTS)}"
        )
    return found


def _for_speakers(weights: Any, there: Speakers, here: Speakers) -> Any:
    """The weights with the vectors of the new model's speakers; without SPEAKER's arrays if it cannot use them.

    A speaker whom the source does not know begins with the mean of its vectors.
    """
    flat = flatten_dict(weights)
    own = [path for path in flat if path[-2:] in SPEAKER]
    if own and (there.kind, there.size) != (here.kind, here.size):
        say(f"not used: what it learned of its speakers ({there.kind}; here {here.kind})")
        return unflatten_dict({path: a for path, a in flat.items() if path not in own})
    known = [there.names.index(name) if name in there.names else None for name in here.names]
    for path in own if here.kind == "id" else []:
        if path[-1] == "embedding":
            old = np.asarray(flat[path])
            flat[path] = np.stack([old.mean(axis=0) if i is None else old[i] for i in known])
    if own and here.kind == "id":
        say(
            f"speakers: {len(known) - known.count(None)} of {len(known)} keep their vectors, others begin with the mean"
        )
    return unflatten_dict(flat)


def taken(
    sources: Sequence[tuple[str, Run]], weights: Any, shapes: Any, partial: bool = False, actnorm: bool = True
) -> Any:
    """The weights that a model of these shapes has too, a tree with its names; says which.

    partial: arrays that differ are left out; otherwise each part that both have must fit, or UserError is raised.
    actnorm: also ActNorm's; otherwise these are left out, to be initialised from the new data.
    """
    there, here = parts(weights), parts(shapes)
    common, own = ({n: tree[n] for n in tree if parts([n]) <= there & here} for tree in (weights, shapes))
    there_too = flatten_dict(common)
    alone = [path for path in flatten_dict(own) if path[-2:] in SPEAKER and path not in there_too]
    found, differ = fitted(common, unflatten_dict({p: a for p, a in flatten_dict(own).items() if p not in alone}))
    if alone:
        say(f"initialised as usual: {len(alone)} arrays for the speakers")
    if not there & here:
        differ = [f"it has {', '.join(sorted(there))}, this {', '.join(sorted(here))}"]
    if not found or (differ and not partial):
        more = f", and {len(differ) - 1} arrays more" if len(differ) > 1 else ""
        remedy = " or begin with the arrays that fit: --init_partial" if found else ""
        raise UserError(
            f"--init_from={_all(sources)}: does not fit this config.model ({differ[0]}{more}); give a model of the "
            f"same sizes{remedy and ','}{remedy}"
        )
    for what, names in (("initialised as usual", here - there), ("not used", there - here)):
        if names:
            say(f"{what}: {', '.join(sorted(names))}")
    for array in differ[:SHOWN]:
        say(f"not taken: {array}")
    if len(differ) > SHOWN:
        say(f"not taken: {len(differ) - SHOWN} arrays more")
    arrays = {path: a for path, a in flatten_dict(found).items() if actnorm or "actnorm" not in path}
    if not actnorm:
        say(f"initialised from the new data: {len(flatten_dict(found)) - len(arrays)} arrays of ActNorm")
    of = flatten_dict(shapes).values()
    numbers, all_numbers = (sum(int(np.prod(a.shape)) for a in tree) for tree in (arrays.values(), of))
    say(f"taken: {len(arrays)} of {len(of)} arrays, {numbers:,} of {all_numbers:,} numbers")
    return unflatten_dict(arrays)


def _all(sources: Sequence[tuple[str, Run]]) -> str:
    return " and ".join(name for name, _ in sources)
