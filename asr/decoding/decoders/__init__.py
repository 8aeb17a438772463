"""Decoders: from a batch of the network's log-probabilities to hypotheses, which hold text.

All are a :class:`asr.decoding.decoders.decoder.Decoder`. A decoder adjusts the log-probabilities, lets a search find the best
sequences, and makes text of them.
"""
