"""Tables as text or Markdown, their columns aligned."""

from collections.abc import Sequence


def table(lines: Sequence[Sequence[str]], left: int = 1, markdown: bool = False) -> str:
    """The first of `lines` is the head; the first `left` columns are flushed left, the others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = "<" * left + ">" * (len(widths) - left)
    padded = [[f"{t:{a}{w}}" for t, a, w in zip(line, align, widths, strict=True)] for line in lines]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in padded)
    rule = ["-" * w if a == "<" else "-" * (w - 1) + ":" for a, w in zip(align, widths, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s": the two largest units."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {int(seconds) % 60:02d} s" if minutes else f"{seconds:.1f} s"
