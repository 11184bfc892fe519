"""Settings of `train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from polygene_scverse.cli._options import option
from polygene_scverse.cli._settings import Device, LogDir, Logger, Overwrite, Paths, Project, Seed

DATA: Final = "Data"
NETWORK: Final = "Network"
HIDING: Final = "What is hidden"
STEPS: Final = "Steps"
CHECKPOINTS: Final = "Checkpoints"
MACHINE: Final = "Machine"


@dataclass(frozen=True)
class DataSettings:
    """What is learned from."""

    paths: Paths = None
    train_data: Annotated[
        list[str] | None, option("The same as DATA.", "--train-data", "--train_data_path", panel=DATA)
    ] = None
    eval_data: Annotated[
        list[str] | None,
        option("Cells to hold out, instead of a draw.", "--eval-data", "--eval_data_path", panel=DATA),
    ] = None
    output: Annotated[Path | None, option("Folder of the model.", "--output", "-o", "--output_dir")] = None
    overwrite: Overwrite = None
    phenotypes: Annotated[
        list[str] | None,
        option(
            "Obs columns to learn; by default those with a usual name.", "--phenotypes", "--sequence_types", panel=DATA
        ),
    ] = None
    vocabulary: Annotated[
        Path | None,
        option(
            "Folder of the original's lists; labels must be in them.",
            "--vocabulary",
            "--phenotypic_tokens_file",
            panel=DATA,
        ),
    ] = None
    ordered: Annotated[
        list[str] | None, option("Phenotypes whose categories have an order.", "--ordered", panel=DATA)
    ] = None
    missing: Annotated[
        list[str] | None, option("Further labels that are read as missing values.", "--missing", panel=DATA)
    ] = None
    group_key: Annotated[
        str | None, option("Obs column of donors or samples to hold out as a whole.", "--group-key", panel=DATA)
    ] = None
    validation_size: Annotated[
        float | None, option("Share of the cells, or groups, to hold out.", "--validation-size", panel=DATA)
    ] = None
    layer: Annotated[str | None, option("Layer to read instead of X.", "--layer", panel=DATA)] = None
    use_raw: Annotated[bool | None, option("Read raw instead of X.", "--use-raw/--no-use-raw", panel=DATA)] = None
    buffer_cells: Annotated[
        int | None,
        option(
            "Read from disk, so many cells at a time; several files always are.",
            "--buffer-cells",
            "--shard_size",
            panel=DATA,
        ),
    ] = None


@dataclass(frozen=True)
class NetworkSettings(DataSettings):
    """What is trained."""

    n_genes: Annotated[
        int | None,
        option("Number of genes, most variable first.", "--n-genes", "--n_highly_variable_genes", panel=NETWORK),
    ] = None
    max_length: Annotated[
        int | None,
        option("Number of words: that of genes and 8 others.", "--max-length", "--max_length", panel=NETWORK),
    ] = None
    n_bins: Annotated[int | None, option("Expression bins; 2 for binary.", "--n-bins", "--num_bins", panel=NETWORK)] = (
        None
    )
    binning: Annotated[str | None, option("quantile or original.", "--binning", panel=NETWORK)] = None
    threshold: Annotated[
        float | None, option("Expression from which on a gene is expressed.", "--threshold", panel=NETWORK)
    ] = None
    expression_min: Annotated[
        float | None,
        option(
            "Lower edge of bin 1, if above 0; --threshold goes before.",
            "--expression-min",
            "--expression_min_value",
            panel=NETWORK,
        ),
    ] = None
    expression_max: Annotated[
        float | None, option("Lower edge of the last bin.", "--expression-max", "--expression_max_value", panel=NETWORK)
    ] = None
    model_name: Annotated[
        str | None, option("bert: there is no other.", "--model-name", "--model_name", panel=NETWORK)
    ] = None
    size: Annotated[str | None, option("tiny, or 512 or 2432 for the original's.", "--size", panel=NETWORK)] = None
    n_hidden: Annotated[int | None, option("Width of a word.", "--n-hidden", "--hidden_size", panel=NETWORK)] = None
    n_layers: Annotated[int | None, option("Number of blocks.", "--n-layers", "--num_hidden_layers", panel=NETWORK)] = (
        None
    )
    n_heads: Annotated[int | None, option("Attention heads.", "--n-heads", "--num_attention_heads", panel=NETWORK)] = (
        None
    )
    n_intermediate: Annotated[
        int | None, option("Width inside a block.", "--n-intermediate", "--intermediate_size", panel=NETWORK)
    ] = None
    dropout: Annotated[float | None, option("Dropout.", "--dropout", panel=NETWORK)] = None
    linear_path: Annotated[
        bool | None,
        option("Discriminants beside the transformer.", "--linear-path/--no-linear-path", panel=NETWORK),
    ] = None
    phenotype_weight: Annotated[
        float | None, option("Weight of the phenotypes' loss.", "--phenotype-weight", panel=NETWORK)
    ] = None
    bin_width: Annotated[float | None, option("Smoothing over neighbouring bins.", "--bin-width", panel=NETWORK)] = None
    label_smoothing: Annotated[
        float | None, option("Smoothing over categories.", "--label-smoothing", panel=NETWORK)
    ] = None


@dataclass(frozen=True)
class TrainSettings(NetworkSettings):
    """Train a model.

    Unset options are as in `pgs.tl.train`; the same seed gives the same model.
    """

    masking: Annotated[str | None, option("original: its rates.", "--masking", panel=HIDING)] = None
    mask_genes: Annotated[
        float | None, option("Share of expressed genes to hide.", "--mask-genes", "--mlm_probability", panel=HIDING)
    ] = None
    mask_not_expressed: Annotated[
        str | None,
        option("Share of the others, or match: as many as expressed ones.", "--mask-not-expressed", panel=HIDING),
    ] = None
    mask_phenotypes: Annotated[
        float | None,
        option(
            "Probability of a phenotype to be hidden.",
            "--mask-phenotypes",
            "--phenotypic_mlm_probability",
            panel=HIDING,
        ),
    ] = None
    gene_dropout: Annotated[
        float | None, option("Highest share of genes left out.", "--gene-dropout", panel=HIDING)
    ] = None
    max_genes: Annotated[int | None, option("Most genes that a cell shows.", "--max-genes", panel=HIDING)] = None
    max_epochs: Annotated[int | None, option("Passes over the cells.", "--max-epochs", "--n_epochs", panel=STEPS)] = (
        None
    )
    batch_size: Annotated[int | None, option("Cells per step.", "--batch-size", "--train_batch_size", panel=STEPS)] = (
        None
    )
    eval_batch_size: Annotated[
        int | None,
        option(
            "Cells per step where held-out cells are scored.", "--eval-batch-size", "--eval_batch_size", panel=STEPS
        ),
    ] = None
    lr: Annotated[float | None, option("Highest learning rate.", "--lr", "--learning_rate", panel=STEPS)] = None
    weight_decay: Annotated[float | None, option("Weight decay.", "--weight-decay", panel=STEPS)] = None
    warmup: Annotated[float | None, option("Share of the steps to warm up.", "--warmup", panel=STEPS)] = None
    schedule: Annotated[str | None, option("linear, cosine or constant.", "--schedule", panel=STEPS)] = None
    early_stopping: Annotated[
        bool | None, option("Stop when the held-out loss rises.", "--early-stopping/--no-early-stopping", panel=STEPS)
    ] = None
    accumulate: Annotated[int | None, option("Batches per step.", "--accumulate", panel=STEPS)] = None
    resume: Annotated[
        bool | None, option("Go on from the last checkpoint.", "--resume/--no-resume", panel=CHECKPOINTS)
    ] = None
    save_steps: Annotated[
        float | None,
        option(
            "Steps between checkpoints; below 1 a share of an epoch.", "--save-steps", "--save_steps", panel=CHECKPOINTS
        ),
    ] = None
    save_epochs: Annotated[int | None, option("Epochs between checkpoints.", "--save-epochs", panel=CHECKPOINTS)] = None
    checkpoints: Annotated[
        Path | None,
        option("Their folder; by default checkpoints inside of OUTPUT.", "--checkpoints", panel=CHECKPOINTS),
    ] = None
    seed: Seed = None
    device: Device = None
    devices: Annotated[int | None, option("Number of processes or cards.", "--devices", panel=MACHINE)] = None
    nodes: Annotated[int | None, option("Number of machines.", "--nodes", panel=MACHINE)] = None
    strategy: Annotated[str | None, option("ddp, ….", "--strategy", panel=MACHINE)] = None
    precision: Annotated[str | None, option("32, bf16-mixed, ….", "--precision", panel=MACHINE)] = None
    num_workers: Annotated[int | None, option("Processes that read.", "--num-workers", panel=MACHINE)] = None
    quiet: Annotated[bool | None, option("Say nothing but errors.", "--quiet/--verbose")] = None
    logger: Logger = None
    log_dir: LogDir = None
    project: Project = None
