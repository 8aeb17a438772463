"""The words of a text that is known, or was recognised: where in the audio each is spoken, and how likely it is right."""
