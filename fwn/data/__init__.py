"""Reads what data_prep writes: corpora, crops and batches."""
