"""Audio files and spectra."""
