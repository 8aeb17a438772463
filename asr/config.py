"""The schema of every configuration field: its meaning, unit, range and default.

The YAML files of ``conf/`` and ``recipes/`` are checked against these dataclasses, so a key or a type that is not here is an
error. :mod:`asr.config_checks` checks ranges and combinations; :mod:`asr.config_mapping` reads and writes the objects, so that
they travel inside a model package. Hydra's composition of the YAML files is in :mod:`asr.compose`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import ConfigError
from asr.option import Option, leaves, option

MANIFESTS = "data/manifests"
"""Where manifests are, unless another folder is named."""

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000)
"""Sample rates (Hz) at which ``augment.mp3_kbps`` can be used."""

TELEPHONE_RATE = 8000
"""Samples a second of a telephone."""


@dataclass
class CorpusConfig:
    """Which prepared manifests are used for what."""

    manifests: str = option(MANIFESTS, "folder that `asr prepare` wrote its manifests to")
    train: list[str] = option([], "manifests to train on: names below the folder, such as librispeech/train-clean-5, or paths")
    dev: list[str] = option([], "manifests to choose checkpoints and tune on")


@dataclass
class TokensConfig:
    """What the network writes, and how transcripts are brought into that form."""

    kind: str = option(
        "characters",
        "characters; bpe: pieces of words, found in the training transcripts; phones: sounds, by a voice or a dictionary",
        choices=("characters", "bpe", "phones"),
    )
    alphabet: str = option(
        " 'abcdefghijklmnopqrstuvwxyz", "the characters a transcript may hold, word boundary (space) included"
    )
    case: str = option("lower", "letter case that transcripts are brought into", choices=("lower", "upper", "keep"))
    punctuation: str = option(
        "remove", "remove punctuation that the alphabet lacks, or treat it as an unknown character", choices=("remove", "keep")
    )
    size: int = option(500, "tokens of bpe, blank included", low=3, high=65536)
    voice: str = option("en-us", "voice of eSpeak NG that pronounces words (phones)")
    stress: str = option("remove", "marks of stress on phones", choices=("remove", "keep"))
    dictionary: str | None = option(None, "file of pronunciations in CMUdict's format (phones); null asks the voice")


@dataclass
class FrontendConfig:
    """Waveform to features."""

    kind: str = option("log_mel", "features", choices=("log_mel", "spectrogram", "mfcc"))
    sample_rate: int = option(16000, "audio is resampled to this rate", unit="Hz", low=4000, high=48000)
    window_s: float = option(0.025, "length of the analysis window", unit="s", low=0.002, high=0.2)
    hop_s: float = option(0.010, "distance between frames", unit="s", low=0.001, high=0.1)
    n_mels: int = option(80, "mel bands (log_mel and mfcc)", low=4, high=256)
    n_mfcc: int = option(40, "cepstral coefficients (mfcc)", low=2, high=256)
    f_min_hz: float = option(20.0, "lowest frequency of the mel bands", unit="Hz", low=0.0)
    f_max_hz: float | None = option(
        None, "highest frequency of the mel bands; null is half the sample rate", unit="Hz", low=100.0
    )
    dynamic_range_db: float | None = option(
        80.0,
        "powers further below the utterance's loudest are raised to this (log_mel and mfcc); null is off",
        unit="dB",
        low=1.0,
        high=200.0,
    )
    normalisation: str = option(
        "utterance",
        "zero mean and unit variance of each feature: over the utterance, by statistics of the training corpus, or not at all",
        choices=("utterance", "corpus", "none"),
    )


@dataclass
class AugmentConfig:
    """What training audio goes through; validation and test audio never does."""

    speed: list[float] = option(
        [0.9, 1.0, 1.1], "speed factors, one drawn for each utterance; [] or [1.0] is off", low=0.5, high=2.0
    )
    mp3_kbps: list[int] = option(
        [], "bit rates of MP3, one drawn for each utterance that is coded; [] is off", unit="kbit/s", low=16, high=64
    )
    mp3_fraction: float = option(0.5, "share of the utterances that go through MP3 (with mp3_kbps)", low=0.0, high=1.0)
    noise: list[str] = option(
        [],
        "what is mixed with speech, one drawn for each noisy utterance: white, pink, brown, babble (other training "
        "utterances), manifests or folders of recorded noise; [] is off",
    )
    noise_fraction: float = option(0.5, "share of the utterances that noise is added to (with noise)", low=0.0, high=1.0)
    noise_snr_db: list[float] = option(
        [5.0, 25.0], "range of the power of speech over that of noise", unit="dB", low=-20.0, high=100.0
    )
    room_fraction: float = option(0.0, "share of the utterances that are played in a simulated room", low=0.0, high=1.0)
    room_rt60_s: list[float] = option(
        [0.2, 0.7], "range of the time in which a room's echo falls by 60 dB", unit="s", low=0.05, high=5.0
    )
    room_distance_m: list[float] = option(
        [0.3, 3.0], "range of the distance from mouth to microphone in a room", unit="m", low=0.05, high=30.0
    )
    volume_fraction: float = option(0.0, "share of the utterances that are recorded at another level", low=0.0, high=1.0)
    volume_db: list[float] = option(
        [-30.0, 15.0],
        "range of their gain; what is too loud is clipped, what is quiet rounded to 16 bits",
        unit="dB",
        low=-60.0,
        high=60.0,
    )
    telephone_fraction: float = option(
        0.0, "share of the utterances that go through a telephone: 300 to 3400 Hz, G.711 or GSM 06.10", low=0.0, high=1.0
    )
    time_masks: int = option(2, "SpecAugment: masks over time, at most", low=0, high=100)
    time_mask_s: float = option(0.7, "SpecAugment: longest mask over time", unit="s", low=0.0, high=10.0)
    time_mask_fraction: float = option(0.2, "SpecAugment: longest mask as a share of the utterance", low=0.0, high=1.0)
    frequency_masks: int = option(2, "SpecAugment: masks over frequency", low=0, high=100)
    ramp_fraction: float = option(
        0.0, "share of all steps over which SpecAugment's masks and dropout grow to their full size", low=0.0, high=1.0
    )
    frequency_mask_fraction: float = option(0.3, "SpecAugment: widest mask as a share of the feature bins", low=0.0, high=1.0)


@dataclass
class CnnConfig:
    """Convolutions over time and frequency; the lists have one entry a layer."""

    channels: list[int] = option([32, 32, 32], "output channels", low=1, high=2048)
    time_kernels: list[int] = option([5, 3, 3], "kernel size over time, odd", unit="frames", low=1, high=99)
    frequency_kernels: list[int] = option([5, 3, 3], "kernel size over frequency, odd", unit="bins", low=1, high=99)
    time_strides: list[int] = option([2, 2, 1], "stride over time", low=1, high=8)
    frequency_strides: list[int] = option([2, 2, 2], "stride over frequency", low=1, high=8)
    norm: str = option("batch", "normalisation after each convolution", choices=("layer", "batch", "none"))
    activation: str = option("relu", "nonlinearity", choices=("relu", "gelu", "silu", "clipped_relu"))
    dropout: float = option(0.1, "dropout after each convolution", low=0.0, high=0.95)


@dataclass
class RecurrentConfig:
    """The recurrent stack."""

    cell: str = option(
        "lstm",
        "recurrent cell, or a baseline: window_mlp sees a window of frames, none leaves the convolutions alone",
        choices=("rnn", "lstm", "gru", "peephole_lstm", "coupled_lstm", "window_mlp", "none"),
    )
    layers: int = option(4, "stacked layers", low=1, high=32)
    hidden_size: int = option(256, "units in each direction", low=1, high=8192)
    bidirectional: bool = option(True, "read the utterance in both directions; window_mlp: look ahead as well")
    projection: int = option(0, "values to which each layer's output is projected; 0 is no projection", low=0, high=65536)
    norm: str = option("batch", "normalisation of the input and after each layer", choices=("layer", "batch", "none"))
    dropout: float = option(0.2, "dropout after each layer, one mask for all frames of an utterance", low=0.0, high=0.95)
    activation: str = option("tanh", "of rnn and window_mlp", choices=("tanh", "relu"))
    window: int = option(3, "frames on each side that a layer of window_mlp sees", low=0, high=1000)
    input_init: str = option(
        "xavier", "initial weights from the input, gate by gate", choices=("xavier", "orthogonal", "uniform")
    )
    recurrent_init: str = option(
        "orthogonal",
        "initial weights of the frame before, gate by gate; identity goes with rnn and activation=relu",
        choices=("xavier", "orthogonal", "identity", "uniform"),
    )
    forget_bias: float = option(1.0, "initial bias of the forget gate (of the LSTMs)", low=-10.0, high=10.0)


@dataclass
class HeadConfig:
    """Fully connected layers between the recurrent stack and the tokens."""

    hidden_sizes: list[int] = option([], "units of the hidden layers; [] is a single projection", low=1, high=65536)
    dropout: float = option(0.2, "dropout after each hidden layer", low=0.0, high=0.95)


@dataclass
class ModelConfig:
    """CNN, recurrent stack, head."""

    cnn: CnnConfig = field(default_factory=CnnConfig)
    recurrent: RecurrentConfig = field(default_factory=RecurrentConfig)
    head: HeadConfig = field(default_factory=HeadConfig)


@dataclass
class OptimConfig:
    """The loss, AdamW, and its learning-rate schedule."""

    lr: float = option(1e-3, "peak learning rate", low=1e-8, high=10.0)
    betas: list[float] = option([0.9, 0.98], "decay of AdamW's first and second moments", low=0.0, high=0.99999)
    eps: float = option(1e-8, "AdamW's epsilon", low=1e-16, high=1e-2)
    weight_decay: float = option(
        1e-2, "decoupled weight decay of matrices; biases and normalisation are spared", low=0.0, high=10.0
    )
    schedule: str = option("cosine", "decay after the warm-up", choices=("cosine", "linear", "constant"))
    warmup_fraction: float = option(0.1, "share of all steps over which the rate rises to its peak", low=0.0, high=0.9)
    final_fraction: float = option(0.01, "the last rate as a share of the peak", low=0.0, high=1.0)
    loss: str = option(
        "ctc",
        "ctc; ctc_crf: over the sum of all paths, each with the probability of its tokens in an n-gram of the training "
        "transcripts (Xiang and Ou 2019), for decoding with a language model: greedy decoding gets worse by it",
        choices=("ctc", "ctc_crf"),
    )
    crf_order: int = option(
        3, "length of the n-grams (ctc_crf): 4 with up to 64 tokens, 3 with up to 256, 2 with up to 4096", low=1, high=6
    )
    crf_text: list[str] = option(
        [],
        "texts that the n-grams are counted in beside the training transcripts (ctc_crf): text files, a sentence a line, plain "
        "or .xz, .gz, .bz2; or manifests, for their transcripts",
    )
    crf_ctc_weight: float = option(0.1, "weight of CTC's loss beside the other (ctc_crf)", low=0.0, high=10.0)
    crf_after_fraction: float = option(
        0.0, "share of all steps that are made with CTC's loss alone at first (ctc_crf)", low=0.0, high=1.0
    )
    intermediate_ctc: float = option(
        0.0, "weight of an auxiliary CTC loss half-way up the recurrent stack (Lee and Watanabe 2021)", low=0.0, high=0.9
    )
    consistency: float = option(
        0.0,
        "weight of what two differently masked views of each utterance differ by (CR-CTC, Yao et al. 2025: 0.2); a step takes "
        "twice the time and memory of one with 0",
        low=0.0,
        high=10.0,
    )
    clip_norm: float = option(5.0, "gradients are scaled down to this norm; 0 is off", low=0.0)
    clip_value: float = option(0.0, "after clip_norm, each value of a gradient is cut to this size; 0 is off", low=0.0)


@dataclass
class DecodingConfig:
    """Log-probabilities to text."""

    kind: str = option(
        "greedy",
        "greedy: best path; beam: prefix beam search; beam_ngram: beam search with an n-gram language model; rescore: a beam's "
        "hypotheses ranked by an LSTM language model as well; fusion: beam search with an LSTM language model over words",
        choices=("greedy", "beam", "beam_ngram", "rescore", "fusion"),
    )
    beam: int = option(50, "hypotheses kept after each frame (all but greedy)", low=1, high=10000)
    beam_threshold: float = option(
        12.0, "hypotheses whose score is further below the best are dropped (all but greedy)", unit="nats", low=0.0
    )
    beam_tokens: int = option(
        0, "tokens beside the blank tried in each frame, the likeliest ones; 0 tries all (all but greedy)", low=0, high=65536
    )
    log_add: bool = option(
        True, "add up the probabilities of all alignments of a text; false takes that of the best one (all but greedy)"
    )
    n_best: int = option(
        1, "hypotheses returned for each utterance, which json and evaluate -o show (all but greedy)", low=1, high=10000
    )
    blank_skip: float = option(
        1.0,
        "of neighbouring frames whose blank has a higher probability than this, one is kept (all but greedy); 1.0 is off",
        low=0.5,
        high=1.0,
    )
    blank_penalty: float = option(
        0.0, "taken from the blank's log-probability in each frame", unit="nats", low=-20.0, high=20.0
    )
    prior_weight: float = option(0.0, "weight of the tokens' log priors, which are subtracted", low=0.0, high=10.0)
    priors: list[float] = option(
        [], "natural logarithms of the tokens' prior probabilities, the blank first, which `asr tune` finds; [] is none"
    )
    lm: str | None = option(
        None,
        "n-gram language model of beam_ngram, and where wanted of rescore and fusion (the others use none): folder of a "
        "language model package, or a KenLM file (ARPA or binary)",
    )
    lexicon: bool = option(True, "beam_ngram, rescore and fusion write only words of the lexicon, where there is one")
    optional_boundary: bool = option(
        False, "words may follow each other without the boundary token between them (with lexicon)"
    )
    lexicon_file: str | None = option(
        None, "words with their token names, one pronunciation a line; null spells the language model's vocabulary"
    )
    lm_weight: float = option(0.8, "weight of the language model's natural log-probability", low=0.0, high=100.0)
    word_score: float = option(
        1.0, "added for each word, with a lexicon or a language model over words", unit="nats", low=-100.0, high=100.0
    )
    unknown_score: float = option(
        -15.0, "added for each word that the language model does not know (without lexicon)", unit="nats", low=-1000.0, high=0.0
    )
    lstm: str | None = option(None, "LSTM language model of rescore and fusion: folder of a language model package")
    lstm_weight: float = option(0.5, "weight of the LSTM language model's natural log-probability", low=0.0, high=100.0)
    rescore_n: int = option(
        100, "hypotheses of each utterance that rescore ranks; there are no more than beam", low=1, high=10000
    )
    rescore_lm_scale: float = option(
        1.0, "multiplies lm_weight where rescore ranks the list; less than 1 lets the LSTM take its place", low=0.0, high=10.0
    )
    hot_words: list[str] = option([], "words and phrases made likelier, each WORD or WORD:WEIGHT (all but greedy)")
    hot_word_score: float = option(
        6.0, "added for each hot word that is written, times its weight", unit="nats", low=0.0, high=100.0
    )
    jobs: int = option(1, "processes that decode utterances in parallel (all but greedy)", low=1, high=1024)
    confidence_scale: float = option(
        1.0,
        "words' confidences are sigmoid(scale * logit(probability) + length * tokens + bias); `asr tune` finds the three",
        low=0.0,
        high=100.0,
    )
    confidence_length: float = option(0.0, "the length in the confidences: for each token of a word", low=-100.0, high=100.0)
    confidence_bias: float = option(0.0, "the bias in the confidences", low=-100.0, high=100.0)


@dataclass
class EngineConfig:
    """Where a network is trained, whichever it is, and what is shown and saved meanwhile."""

    accelerator: str = option("auto", "where to train", choices=("auto", "cpu", "gpu"))
    devices: int = option(1, "GPUs, or on a CPU processes, that train together", low=1, high=4096)
    precision: str = option(
        "auto",
        "auto is bfloat16 mixed precision where the processor has it, float32 elsewhere",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    threads: int = option(0, "CPU threads; 0 leaves torch's default", low=0, high=4096)
    checkpoint_minutes: float = option(10.0, "a checkpoint is also written when this much time has passed", unit="min", low=0.0)
    log_every: int = option(10, "steps between logged values", low=1, high=100000)
    progress: str = option("auto", "progress bar on a terminal, plain lines in a log", choices=("auto", "bar", "plain", "none"))


@dataclass
class TrainerConfig(EngineConfig):
    """The training loop."""

    epochs: int = option(
        25,
        "passes over the manifests; more of them on resuming stretch the schedule",
        low=1,
        high=100000,
    )
    batch_s: float = option(160.0, "audio in a batch, padding included", unit="s", low=1.0, high=100000.0)
    max_utterances: int = option(64, "utterances in a batch at most", low=1, high=100000)
    buckets: int = option(10, "duration buckets; utterances of one batch come from one bucket", low=1, high=1000)
    max_duration_s: float = option(
        30.0, "longer training utterances are reported and left out", unit="s", low=0.1, high=100000.0
    )
    workers: int = option(
        -1,
        "processes that read and perturb audio beside each training process; -1 is its share of the cores but one where it "
        "trains on a GPU, none where it trains on the CPU",
        low=-1,
        high=256,
    )
    cache_gib: float = option(
        2.0,
        "decoded audio that each training process keeps in memory, in common with its workers; the rest is read each time",
        unit="GiB",
        low=0.0,
        high=4096.0,
    )
    pretrained: str | None = option(
        None,
        "model package, or name of a model that ships, whose weights, tokenizer and feature statistics training starts from; "
        "null starts from random weights",
    )
    new_head: bool = option(
        False, "beside pretrained: make the tokens anew, by the node tokens, and start the head from random weights"
    )
    deterministic: bool = option(True, "refuse operations that are not reproducible (CPU)")
    average_epochs: float = option(
        0.0,
        "validate and package a moving average of the weights over about the last so many epochs, not the newest; 0 is off",
        low=0.0,
        high=100000.0,
    )
    validate_every: int = option(1, "epochs between validations", low=1, high=100000)
    samples: int = option(4, "validation transcripts shown after each epoch", low=0, high=1000)
    loggers: list[str] = option(
        ["tensorboard"],
        "where values are logged: files in the output folder, or those services, offline unless WANDB_MODE=online or "
        "MLFLOW_TRACKING_URI say otherwise",
        choices=("tensorboard", "csv", "wandb", "mlflow"),
    )
    gradient_flow: bool = option(
        False,
        "measure gradients by layer and by distance in time each epoch: gradient-flow.jsonl and .svg in the output folder",
    )


@dataclass
class Config:
    """Everything that `asr train` can be told."""

    name: str = option("asr", "name of the run; it appears in folders and in the model card")
    seed: int = option(1, "seeds weights, batches and augmentation", low=0, high=2**32 - 1)
    output: str = option("runs/${name}", "folder for checkpoints, logs and the model package")
    resume: bool = option(True, "go on from the output folder's last checkpoint where there is one")
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def options() -> dict[str, Option]:
    """Every dotted key of the schema with its declaration."""
    return leaves(Config)


def conf_dir() -> Path:
    """Folder of the configuration groups: ``conf/`` of the checkout, ``asr/conf`` of an installed wheel."""
    return _data_folder("conf")


def recipes_dir() -> Path:
    """Folder of the experiments: ``recipes/`` of the checkout, ``asr/recipes`` of an installed wheel."""
    return _data_folder("recipes")


def _data_folder(name: str) -> Path:
    package = Path(__file__).resolve().parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigError(f"the folder {name}/ is missing beside {package}: the installation is incomplete; install asr again")


def get(config: Any, key: str) -> Any:
    """Value of a dotted key of a schema's object."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value
