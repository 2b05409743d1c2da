"""Measurements of a model: metrics, tables and plots."""
