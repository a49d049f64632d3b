"""What is known of voices by other people's networks: where somebody speaks, and a voice without its noise.

The libraries come with the extra `denoise`, and are loaded when they are first asked something.
"""
