"""Beam searches: from the network's log-probabilities to the likeliest sequences of tokens and words.

A search knows tokens and words by their numbers, no configuration and no tokenizer, and can be sent to other processes. Those
that search by flashlight's decoder do without torch.
"""
