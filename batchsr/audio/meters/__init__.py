"""What is measured while sound streams by: loudness, levels, the joints of windows."""
