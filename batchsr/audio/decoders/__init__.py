"""What turns the bytes of a recording into samples: libsndfile, ffmpeg, and the joining of parts."""
