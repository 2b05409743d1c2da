"""Experiment configs: their fields, their checks, and config.json, the copy in a workdir."""

from fwn.config.fields import ADDED_LATER, FIELDS, OPTIMIZERS, check, plain
from fwn.config.speakers import Speakers, settle, settle_by_data
from fwn.config.stored import FILE, check_same, comparable, copied, mel_of, read, record, write

__all__ = [
    "ADDED_LATER",
    "FIELDS",
    "FILE",
    "OPTIMIZERS",
    "Speakers",
    "check",
    "check_same",
    "comparable",
    "copied",
    "mel_of",
    "plain",
    "read",
    "record",
    "settle",
    "settle_by_data",
    "write",
]
