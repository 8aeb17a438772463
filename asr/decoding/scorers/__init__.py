"""What language models say, as searches ask for it.

The models that a decoder's settings name are read here; each then answers for many hypotheses at once, in natural logarithms:
n-gram models over words or over the network's tokens, LSTMs over words.
"""
