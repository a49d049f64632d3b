"""Everything that touches sound but the model: soundfile, soxr and scipy are imported nowhere else.

numpy goes in and out. A stream is an iterator of float32 blocks (n, C), channels last, and holds no more
than a window of audio at a time. Nothing is imported here, so that `batchsr.audio.windows` stays pure numpy.
"""
