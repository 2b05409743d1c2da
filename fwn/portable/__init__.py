"""A trained model as a folder that runs without fwn: programs, weights, contract, loader and card (docs/export.md)."""
