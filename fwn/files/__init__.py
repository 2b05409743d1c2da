"""Arrays in files of NumPy, PyTorch, safetensors, HDF5. Nothing in a file is executed, no stated size is believed."""
