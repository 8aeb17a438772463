"""Model packages: a folder that is all that transcription and evaluation need, and that cannot run code.

====================  ======================================================================================
``config.yaml``       format version, configuration of tokens, frontend, model and decoding
``model.safetensors`` weights: float32, or matrices in fewer bits (:mod:`asr.model.storage`)
``tokenizer.json``    token inventory and text normaliser
``README.md``         the card: what the model is, how good, how to use it
``language/``         where the decoder needs them: language models (``ngram``, ``lstm``) and words with their spellings
                      (``lexicon.tsv``)
====================  ======================================================================================
"""
