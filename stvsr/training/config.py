"""TrainConfig: the recipe of one training run."""

from typing import Literal

from stvsr.core.config import Config, Field, FieldError, field_validator, model_validator
from stvsr.losses import Reduction

CROP_MULTIPLE = 8
"""A crop's side is a multiple of this, the window of the networks' attention, in LR pixels."""

LONGEST = 1_000_000_000
"""Steps of a run or an interval at most."""

LARGEST_PART = 1 << 24
"""LR pixels at most of the clips that a worker has in memory at a time, per frame."""

NOT_DECIDING = frozenset(
    {
        "recipe",
        "start_from",
        "start_partly",
        "workers",
        "min_workers",
        "log_every",
        "checkpoint_every",
        "validate_every",
        "validate_clips",
        "keep_checkpoints",
        "on_save_failure",
    }
)
"""Fields that the weights do not depend on (`workers`: not beyond the rounding of sums). What
`start_from` names is told apart by its weights."""

AUTO = "auto"
"""Value of `start_from` in a params.yaml: the network that ships with exactly the `model` given
there, else random weights. `TrainConfig` has what that came to."""

FINETUNE = {"steps": 150, "learning_rate": 2e-4, "warmup_steps": 20, "validate_every": 75}
"""The recipe `finetune`: few steps at a small rate, for a network that is trained already."""


class TrainConfig(Config):
    """How a network is trained: optimizer, schedule, batch, and what is logged and kept.

    The defaults are the recipe `small`. In params.yaml a field that is left out, or null, has its
    recipe's value. The published recipes average Charbonnier here; `loss_reduction: sum` is what
    they published, which under Adam differs only where `clip_norm` cuts.
    """

    recipe: str = "small"
    """Where fields start from: `small`, minutes on a laptop; `finetune`, for a network that is
    trained already; or the name of a model, whose published run it is. Left out of params.yaml it
    is `finetune` with `start_from`, else it follows `model`: `small` for that preset, else its
    name."""
    start_from: str | None = Field(default=None, min_length=1, max_length=4096)
    """Network whose weights the run starts from: models:/NAME@ALIAS, stvsr/NAME, the folder of a
    model or a published checkpoint; null: random weights. In params.yaml, `auto` is the network
    that ships with this very `model`, and random weights for any other model and for a search.
    Its checksum is part of the run's identity."""
    start_partly: bool = False
    """Start from the tensors that fit by name and shape where others do not; else that is
    refused."""
    freeze: tuple[str, ...] = Field(default=(), max_length=100)
    """Patterns of parameters' names, such as `extraction.*`, that are not trained."""
    steps: int = Field(default=300, ge=1, le=LONGEST)
    """Optimizer steps of the whole run."""
    batch_size: int = Field(default=4, ge=1, le=65536)
    """Clips per step, over all workers and accumulations together."""
    crop: int = Field(default=32, ge=CROP_MULTIPLE, le=1024)
    """Side of the square crop in LR pixels, a multiple of 8; HR is 4 times that."""
    accumulation: int = Field(default=1, ge=1, le=65536)
    """Parts a worker's clips are split into, one after the other: less memory, same step."""
    learning_rate: float = Field(default=8e-4, gt=0, le=1)
    """Adam's learning rate at the top of the cosine."""
    min_learning_rate: float = Field(default=1e-7, ge=0, le=1)
    """Learning rate at the bottom of the cosine, or below which it does not decay."""
    restart_every: int = Field(default=0, ge=0, le=LONGEST)
    """Steps from one top of the cosine to the next; 0: one curve over all steps."""
    decay_every: int = Field(default=0, ge=0, le=LONGEST)
    """Steps after which the learning rate is multiplied by `decay_factor`, in place of the cosine;
    0: the cosine."""
    decay_factor: float = Field(default=0.25, gt=0, lt=1)
    """Factor of the learning rate after every `decay_every` steps."""
    cosines: tuple[tuple[int, int], ...] = Field(default=(), max_length=100)
    """First step and length of each cosine, where they are not those of `restart_every`; the next
    one cuts a longer one off."""
    restart_factor: float = Field(default=1.0, gt=0, le=1)
    """Factor of `learning_rate` in all cosines but the first."""
    warmup_steps: int = Field(default=10, ge=0, le=LONGEST)
    """Steps over which the learning rate rises linearly at first; 0: none."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's decay of the gradient's mean."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Adam's decay of the squared gradient's mean."""
    loss_reduction: Reduction = "mean"
    """Charbonnier averaged ("mean": the step does not depend on the batch's split) or "sum"."""
    clip_norm: float = Field(default=1.0, ge=0, le=1e9)
    """Largest L2 norm of the gradient over all parameters, longer ones are cut; 0: no limit."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay per step of the weights' moving average, which is then what is validated and
    published; 0: no average."""
    precision: Literal["float32", "bf16"] = "float32"
    """Arithmetic of the forward pass; bf16 is autocast, weights and optimizer stay float32."""
    channels_last: bool = False
    """Keep the convolutions' weights channels last in memory (faster on some GPUs)."""
    compile: bool = False
    """Compile the network with torch.compile first (needs a C++ compiler on a CPU)."""
    cuda_graph: bool = False
    """On an NVIDIA GPU, record the first step as a CUDA graph and replay it: a small network's step
    then no longer waits for the launches of its kernels. On a CPU it has no effect."""
    workers: int = Field(default=1, ge=1, le=4096)
    """Processes that train together, one per GPU; they share `batch_size`."""
    min_workers: int | None = Field(default=None, ge=1, le=4096)
    """Resume with as few workers as these while nodes are missing, and with more when they are
    back; each number up to `workers` must divide `batch_size`. null: wait for all workers."""
    log_every: int = Field(default=10, ge=1, le=LONGEST)
    """Steps between two lines in the log and the history."""
    checkpoint_every: int = Field(default=50, ge=1, le=LONGEST)
    """Steps between two checkpoints; a killed run repeats at most this many. A validation is
    followed by one too, so that the best one is kept."""
    validate_every: int = Field(default=100, ge=0, le=LONGEST)
    """Steps between two validations; the last step is always validated; 0: never any."""
    validate_clips: int = Field(default=6, ge=1, le=1_000_000)
    """Clips of the test shards that a validation scores."""
    keep_checkpoints: int = Field(default=2, ge=1, le=10_000)
    """Newest checkpoints to keep, besides the one with the best validation."""
    nonfinite_limit: int = Field(default=10, ge=1, le=1_000_000)
    """Steps in a row with a loss or gradient that is not finite before the run stops."""
    on_save_failure: Literal["continue", "stop"] = "continue"
    """When a checkpoint cannot be written (full disk): continue with the one before, or stop. The
    last one has to be written in any case."""

    @field_validator("crop")
    @classmethod
    def _crop_is_whole_windows(cls, crop: int) -> int:
        if crop % CROP_MULTIPLE:
            below = crop - crop % CROP_MULTIPLE
            raise ValueError(
                f"a multiple of {CROP_MULTIPLE}, nearest are {below} and {below + CROP_MULTIPLE}"
            )
        return crop

    @model_validator(mode="after")
    def _rates_are_ordered(self) -> "TrainConfig":
        if self.min_learning_rate > self.learning_rate:
            raise FieldError(
                "min_learning_rate",
                f"found {self.min_learning_rate:g}, above learning_rate {self.learning_rate:g}; "
                "lower the one or raise the other",
            )
        return self

    @model_validator(mode="after")
    def _has_one_schedule(self) -> "TrainConfig":
        given = [
            f"{name}: {value}"
            for name, value in (
                ("restart_every", self.restart_every),
                ("decay_every", self.decay_every),
                ("cosines", [*map(list, self.cosines)]),
            )
            if value
        ]
        if len(given) > 1:
            raise ValueError(f"found {' and '.join(given)}; keep one of them")
        return self

    @model_validator(mode="after")
    def _cosines_cover_all_steps(self) -> "TrainConfig":
        if not self.cosines:
            return self
        if self.cosines[0][0] != 0:
            raise FieldError("cosines", f"the first starts at step {self.cosines[0][0]}, not at 0")
        ends = [min(start, self.steps) for start, _ in (*self.cosines[1:], (self.steps, 0))]
        for (start, length), end in zip(self.cosines, ends, strict=True):
            if start < self.steps and not start < end <= start + length:
                raise FieldError(
                    "cosines",
                    f"[{start}, {length}] does not reach from step {start} to {end}, where the "
                    "next one or the end is; change one of them",
                )
        return self

    @model_validator(mode="after")
    def _batch_splits_evenly(self) -> "TrainConfig":
        fewest = self.workers if self.min_workers is None else self.min_workers
        if fewest > self.workers:
            raise FieldError(
                "min_workers", f"found {fewest}, above workers {self.workers}; lower it"
            )
        for workers in range(self.workers, fewest - 1, -1):
            refusal = uneven_split(self.batch_size, workers, self.accumulation)
            if refusal:
                raise FieldError("batch_size", refusal)
        return self

    @model_validator(mode="after")
    def _batch_fits_in_memory(self) -> "TrainConfig":
        fewest = self.workers if self.min_workers is None else self.min_workers
        clips = -(-self.batch_size // (fewest * self.accumulation))
        if clips * self.crop**2 > LARGEST_PART:
            raise FieldError(
                "batch_size",
                f"found {self.batch_size} with crop {self.crop}, {fewest} workers and "
                f"{self.accumulation} accumulations: {clips * self.crop**2:,} LR pixels at a time; "
                f"allowed: {LARGEST_PART:,}; lower batch_size or crop, or raise accumulation",
            )
        return self

    def deciding(self) -> dict[str, object]:
        """The fields that decide the weights, by name: what tells one run from another."""
        return self.model_dump(mode="json", exclude=set(NOT_DECIDING))


def uneven_split(batch_size: int, workers: int, accumulation: int) -> str:
    """Why `batch_size` clips cannot be shared out evenly; empty where they can."""
    parts = workers * accumulation
    if batch_size % parts == 0:
        return ""
    below, above = batch_size - batch_size % parts, batch_size + parts - batch_size % parts
    nearest = f"{below} or {above}" if below else f"{above}"
    return (
        f"found {batch_size}, which does not split evenly over {workers} workers x "
        f"{accumulation} accumulations; nearest batch_size: {nearest}"
    )
