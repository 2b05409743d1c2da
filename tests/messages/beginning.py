"""Errors of what fwn.train begins with: the weights of --init_from, and the teacher of a student."""

from unittest import mock

import numpy as np

from . import TRAIN, Place, Row, table

NEW = "{flags} --workdir={here}/new "
STARTED = ("new", "new/.lock", "new/checkpoints")
STUDENT = "--config=tiny_clarinet --workdir={here}/new "


def other_teacher(_: Place) -> None:
    """As a student says that is continued; training one takes too long here."""
    from fwn.train import check_taught

    check_taught({"upsample": np.zeros(1)}, {"upsample": np.ones(1)}, mock.Mock(teacher="teachers/a"))


ROWS = [
    Row(
        TRAIN,
        NEW + "--init_parts=prediction",
        "--init_parts=prediction: needs --init_from, the workdir or voice that has these parts",
    ),
    Row(
        TRAIN,
        NEW + "--init_partial",
        "--init_partial: needs --init_from, the workdir or voice to begin with",
    ),
    Row(
        TRAIN,
        NEW + "--init_actnorm=data",
        "--init_actnorm=data: needs --init_from, the workdir or voice to begin with",
    ),
    Row(
        TRAIN,
        NEW + "--init_from={here}/none",
        "{here}/none: no such folder; give a workdir of fwn.train or an output folder of fwn.convert",
        creates=STARTED,
    ),
    Row(
        TRAIN,
        NEW + "--init_from={foreign}",
        (
            (
                "--init_from={foreign} has the mel contract hifigan (3c96768fd3c8), config.mel is flowavenet "
                "(a13bd5d9b250); they must be equal\n"
            )
            + table("hifigan", "flowavenet")
        ),
        creates=STARTED,
    ),
    Row(
        TRAIN,
        NEW + "--init_from={plain} --init_parts=prediction",
        ("--init_parts=prediction: {plain} has none of these parts; name others of prediction, autoregression, model"),
        creates=STARTED,
    ),
    Row(
        TRAIN,
        NEW + "--init_from={voice} --config.model.channels=12",
        "--init_from={voice}: does not fit this config.model (block_0/flows/net/condition_0/bias has "
        "the shape [1, 16] there, [1, 24] here, and <number> arrays more); give a model of the same sizes, or begin "
        "with the arrays that fit: --init_partial",
        creates=STARTED,
    ),
    Row(
        TRAIN,
        NEW + "--config.freeze=predicton",
        "config.freeze: no weights are named 'predicton'; did you mean 'prediction'?; there are autoregression, "
        "block_0, block_1, prediction, upsample, and parts of them, as in autoregression/encoder/first/bias",
        creates=STARTED,
    ),
    Row(
        TRAIN,
        "{flags} --workdir={here}/run --config.freeze=block_0,blok_1",
        "config.freeze: no weights are named 'blok_1'; did you mean 'block_1'?; there are autoregression, "
        "block_0, block_1, prediction, upsample, and parts of them, as in autoregression/encoder/first/bias",
        lambda place: place.copy("run") and None,
    ),
    Row(
        TRAIN,
        NEW + "--config.freeze='*'",
        "config.freeze=*: leaves nothing to train; name fewer weights",
        creates=STARTED,
    ),
    Row(
        TRAIN,
        STUDENT + "--config.teacher={here}/none",
        "{here}/none: no such folder; give a workdir of fwn.train or an output folder of fwn.convert",
    ),
    Row(
        TRAIN,
        STUDENT + "--config.teacher={foreign}",
        (
            (
                "config.teacher={foreign} has the mel contract hifigan (3c96768fd3c8), config.mel is flowavenet "
                "(a13bd5d9b250); they must be equal\n"
            )
            + table("hifigan", "flowavenet")
        ),
    ),
    Row(
        TRAIN,
        STUDENT + "--config.teacher={run}",
        "config.teacher={run} is a flowavenet; clarinet learns from a wavenet (gaussian)",
    ),
    Row(
        TRAIN,
        STUDENT + "--config.teacher={mixture}",
        ("config.teacher={mixture} is a wavenet (mixture_of_logistics); clarinet learns from a wavenet (gaussian)"),
    ),
    Row(
        TRAIN,
        STUDENT + "--config.teacher={predicting}",
        "config.teacher={predicting} has linear prediction, which students do not support; give a "
        "teacher with config.model.prediction.order=0",
    ),
    Row(
        TRAIN,
        STUDENT + "--config.teacher={wavenet} --config.model.upsample_strides=(8,32)",
        "config.model: upsample_strides=(8, 32), but those of the teacher, whose upsampling the student "
        "uses, are (16, 16) ({wavenet}); give these",
    ),
    Row(
        TRAIN,
        STUDENT
        + "--config.teacher={wavenet} --config.loss.kl=0. --config.loss.frame=0. --config.loss.regularisation=0.",
        ("config.loss: kl, regularisation, frame are all 0: there is nothing to minimise; give one of them a weight"),
    ),
    Row(
        TRAIN,
        STUDENT + "--config.data={corpus} --config.frames=8",
        "clarinet learns from a teacher; give its workdir: --config.teacher=DIR",
    ),
    Row(
        other_teacher,
        "",
        "config.teacher=teachers/a has other weights than the teacher that this run began with (was it "
        "trained further?); give that teacher, or another --workdir",
    ),
]
