"""Published figures of the compared systems, and metrics of the samples that the paper's authors published.

From Kim et al. 2019, arXiv:1811.02155: mean opinion scores, conditional log-likelihood, sampling speed on one GPU.
The objective metrics are not in the paper. We measured them by fwn.evaluation.metrics on the authors' samples
(github.com/ksw0306/flowavenet-demo, five LJSpeech utterances per system); tests/test_metrics.py checks them.
"""

from typing import NamedTuple

MEASURED = ("log_mel_l1", "multi_resolution_stft", "pesq_wb", "stoi", "line_noise", "level_ratio_db")
UTTERANCES = 5


class Published(NamedTuple):
    """mos, nats_per_sample (the paper's CLL) and samples_per_second are the paper's; None if it gives none.

    samples: the metrics MEASURED, in that order, of the authors' samples; () if they published none.
    """

    title: str
    mos: float | None = None
    nats_per_sample: float | None = None
    samples_per_second: float | None = None
    samples: tuple[float, ...] = ()


FLOWAVENET = Published(
    "FloWaveNet (T = 0.8)", 3.95, 4.5457, samples_per_second=420_000, samples=(0.338, 1.148, 3.41, 0.973, 2.45, -0.83)
)
PAPER = (
    Published("recordings", mos=4.67),
    Published("WaveNet (autoregressive)", samples_per_second=172),
    Published("Gaussian WaveNet", mos=4.46, samples=(0.332, 1.188, 3.40, 0.967, 0.27, -0.64)),
    Published("MoL WaveNet", mos=4.30, samples=(0.343, 1.217, 3.12, 0.956, 0.74, -0.81)),
    FLOWAVENET,
    Published("Gaussian IAF", mos=3.75, samples=(0.447, 1.162, 2.81, 0.970, 0.81, -0.41)),
    Published("FloWaveNet, causal", mos=3.36, samples=(0.438, 1.278, 2.88, 0.951, 4.11, -1.92)),
)
