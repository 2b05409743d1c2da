"""Tools beside the product: training in short slots (docs/voice.md)."""
