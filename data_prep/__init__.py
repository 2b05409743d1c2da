"""Corpus preparation: recordings to memory-mapped shards of audio and mel."""
