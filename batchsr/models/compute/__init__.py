"""What computes: devices, layers and kernels that know nothing of a particular network."""
