"""Audio files, and spectra of audio."""
