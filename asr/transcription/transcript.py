"""What transcription returns."""

from __future__ import annotations

from dataclasses import dataclass

from asr.decoding.hypothesis import Word


@dataclass(frozen=True)
class Segment:
    """A stretch of audio that was recognised by itself.

    Attributes
    ----------
    start_s, end_s
        Its place in the audio, in seconds.
    text
        What was said in it; never empty.
    words
        Its words with their times in the whole audio and their confidences, where they were asked for.
    alternatives
        Other texts that it may be, the likeliest first, where ``decoding.n_best`` asks for more than one. A stretch that was
        cut where there is no pause has none.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    alternatives: tuple[str, ...] = ()

    @property
    def confidence(self) -> float | None:
        """The mean confidence of the words, which is the share of them that should be right; None without words."""
        return sum(word.confidence for word in self.words) / len(self.words) if self.words else None


@dataclass(frozen=True)
class Transcript:
    """The text of one recording.

    Attributes
    ----------
    file
        Path or name of the source.
    duration_s
        Length of the audio in seconds.
    segments
        The stretches with text, in the order of time.
    model_name, checkpoint_hash
        Which model wrote it.
    channel
        The channel that was transcribed, from 0; None where all were mixed.
    notices
        What should be known of it: why there is no text, or what was done to the audio.
    losses
        What could not be read of a damaged recording, where reading went on past that.
    """

    file: str
    duration_s: float
    segments: tuple[Segment, ...]
    model_name: str
    checkpoint_hash: str
    channel: int | None = None
    notices: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole text, segments joined by spaces."""
        return " ".join(segment.text for segment in self.segments)
