"""Options of XLA's compiler, by platform."""


def training_step(platform: str) -> dict[str, str]:
    """On a CPU, YNNPACK for matrix products alone: sums by it wait for its own threads' turn."""
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"} if platform == "cpu" else {}
