"""From mels to audio: the vocoder, chunks and streams, and voices in one file."""
