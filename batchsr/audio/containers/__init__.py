"""The containers that sound comes in: their chunks, pages and frames, read without decoding a sample."""
