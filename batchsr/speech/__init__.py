"""What other people's networks know of speech. Their libraries come with extras and are loaded when first needed.

voice.py       where somebody speaks
denoiser.py    a voice without its noise
opinion.py     what listeners would say of it
recogniser.py  the words that are heard
words.py       which of them an output has lost
"""
