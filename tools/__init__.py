"""Tools that are not in the wheel: training in short slots (docs/voice.md)."""
