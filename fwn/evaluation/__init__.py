"""What is measured of a model, in metrics, tables and plots."""
