"""Reads the data sets that data_prep writes: utterances, crops and batches."""
