"""Corpus preparation: converts recordings to memory-mapped shards of audio and mels."""
