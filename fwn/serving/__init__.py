"""The HTTP server of a voice: micro-batches, limits, metrics, and the page at /. fwn.serve runs it."""
