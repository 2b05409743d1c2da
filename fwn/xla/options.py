"""Compiler options of XLA, by platform."""


def training_step(platform: str) -> dict[str, str]:
    """On a CPU, YNNPACK computes matrix products only: its sums would wait for its thread pool."""
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"} if platform == "cpu" else {}
