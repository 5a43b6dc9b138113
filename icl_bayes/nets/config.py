"""Architecture of the in-context network, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from icl_bayes.flow import BASES, GAUSSIAN_BASES

ENCODERS = ("transformer", "inducing", "mlp", "columns")
LAYOUTS = ("single", "coordinate", "component", "column")
INPUTS = ("theta", "theta_and_score", "theta_and_denoised")
PARAMETRIZATIONS = ("velocity", "residual")
ACTIVATIONS = ("relu", "smooth_relu")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of encoder and velocity decoder.

    Attributes:
        encoder: ``transformer`` (self-attention over rows; the paper's), ``inducing`` (rows are
            read through a fixed number of latent tokens; cost linear in n, decoder cost
            independent of n), ``mlp`` (flattened rows; the paper's ablation) or ``columns`` (one token per coordinate
            of theta, whatever their number; goes with ``layout=column``).
        width, heads, feedforward: of encoder and decoder.
        encoder_layers, decoder_blocks, head_layers: depths.
        inducing_points: number of latent tokens (``inducing``).
        mlp_rows: rows the ``mlp`` encoder is built for; more rows are an error.
        base: ``standard | gaussian | laplace | variational | pilots | modes``, see :mod:`icl_bayes.flow.bases`.
        inputs: ``theta``, ``theta_and_score`` (the velocity also sees the squashed residual
            score of the log joint at the denoised point, in whitened coordinates) or ``theta_and_denoised``
            (it corrects the velocity that a denoiser gives: the task's own, or in few dimensions
            :func:`icl_bayes.flow.importance_denoiser`).
        smoothed_score: whether it also sees an estimate of the score's mean around that point.
        summaries: whether the encoder reads, beside the rows, what the task's own algorithm finds in them, or, for a
            task without, a sample that the ``pilots`` base has found.
        layout: ``single`` token for the whole theta (the paper's), one per ``coordinate``, one per exchangeable
            ``component`` of the model, all treated alike, or one per ``column``: a coordinate that is known by what the
            task says of it, so that one network serves any number of them.
        parametrization: the network outputs the ``velocity`` (the paper's) or the ``residual``
            score, from which the velocity follows (:mod:`icl_bayes.flow.paths`).
        pooled_context: whether the decoder is also conditioned on the pooled memory and context.
        time_features: number of Fourier features of time; 0 feeds the scalar (the paper's).
        dropout: rate in training.
        activation: of the decoder, ``relu`` (the paper's) or ``smooth_relu``, with which draws are a smooth map of the
            noise, and their density has no jumps.
        compute_dtype: ``float32`` or ``bfloat16`` inside layers, ``float64`` under ``jax.enable_x64``; parameters stay
            float32.
    """

    encoder: str = "inducing"
    width: int = 48
    heads: int = 4
    feedforward: int = 96
    encoder_layers: int = 1
    decoder_blocks: int = 2
    head_layers: int = 1
    inducing_points: int = 8
    mlp_rows: int = 50
    base: str = "variational"
    inputs: str = "theta_and_score"
    smoothed_score: bool = True
    summaries: bool = False
    layout: str = "single"
    parametrization: str = "residual"
    pooled_context: bool = True
    time_features: int = 16
    dropout: float = 0.0
    activation: str = "relu"
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        choices = {
            "encoder": ENCODERS,
            "base": BASES,
            "inputs": INPUTS,
            "layout": LAYOUTS,
            "parametrization": PARAMETRIZATIONS,
            "activation": ACTIVATIONS,
            "compute_dtype": ("float32", "bfloat16", "float64"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"model.{name} must be one of {allowed}; received {getattr(self, name)!r}.")
        if (self.encoder == "columns") != (self.layout == "column"):
            raise ValueError(
                "model.encoder=columns and model.layout=column belong together; received "
                f"model.encoder={self.encoder} and model.layout={self.layout}."
            )
        if self.layout == "column" and (
            self.base not in GAUSSIAN_BASES
            or (self.inputs, self.parametrization, self.smoothed_score) != ("theta_and_score", "residual", True)
        ):
            raise ValueError(
                f"model.layout=column needs model.base={' or '.join(GAUSSIAN_BASES)}, model.inputs=theta_and_score, "
                "model.smoothed_score=true and model.parametrization=residual."
            )
        if self.width % self.heads:
            raise ValueError(f"model.width ({self.width}) must be a multiple of model.heads ({self.heads}).")

    @property
    def score_kinds(self) -> int:
        """Number of vectors the velocity sees beside theta."""
        return {"theta": 0, "theta_and_score": 1 + self.smoothed_score, "theta_and_denoised": 2}[self.inputs]

    @property
    def place_kinds(self) -> int:
        """Number of vectors that say where one of several bases lies: its center and its widths."""
        return 2 if self.base == "modes" else 0


@dataclass(frozen=True)
class ModelShape:
    """Sizes that follow from the task.

    Attributes:
        dim: length of theta.
        row_features, context_features: lengths of a row's and of the context's feature vector.
        components: for each exchangeable component, in one order, where its coordinates lie in theta; none if
            the model has no such components.
    """

    dim: int
    row_features: int
    context_features: int
    components: tuple[tuple[int, ...], ...] = ()

    def tokens(self, layout: str) -> tuple[tuple[int, ...], ...]:
        """For each token of a layout, which coordinates of theta it holds."""
        if layout == "single":
            return (tuple(range(self.dim)),)
        if layout == "coordinate":
            return tuple((index,) for index in range(self.dim))
        if not self.components:
            raise ValueError(
                "model.layout=component is for models with exchangeable components, such as mixtures; this one has "
                "none. Use layout=single or coordinate."
            )
        return self.components
