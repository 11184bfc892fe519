"""Settings of `train`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from polygene_scverse.cli._options import argument, option
from polygene_scverse.cli._settings import CELLS, log_option

data_option = partial(option, panel="Data")
network_option = partial(option, panel="Network")
hiding_option = partial(option, panel="What is hidden")
step_option = partial(option, panel="Steps")
checkpoint_option = partial(option, panel="Checkpoints")
machine_option = partial(option, panel="Machine")


@dataclass(frozen=True)
class DataSettings:
    """What is learned from."""

    paths: list[str] | None = argument(CELLS, metavar="DATA...")
    train_data: list[str] | None = data_option("The same as DATA.", "--train_data_path")
    eval_data: list[str] | None = data_option("Cells to hold out, instead of a draw.", "--eval_data_path")
    output: Path | None = option("Folder of the model.", "-o", "--output_dir")
    overwrite: bool | None = option("Replace what is there.")
    phenotypes: list[str] | None = data_option(
        "Obs columns to learn; by default those with a usual name.", "--sequence_types"
    )
    vocabulary: Path | None = data_option(
        "Folder of the original's lists; labels must be in them.", "--phenotypic_tokens_file"
    )
    ordered: list[str] | None = data_option("Phenotypes whose categories have an order.")
    missing: list[str] | None = data_option("Further labels that are read as missing values.")
    group_key: str | None = data_option("Obs column of donors or samples to hold out as a whole.")
    validation_size: float | None = data_option("Share of the cells, or groups, to hold out.")
    layer: str | None = data_option("Layer to read instead of X.")
    use_raw: bool | None = data_option("Read raw instead of X.")
    buffer_cells: int | None = data_option(
        "Read from disk, so many cells at a time; several files always are.", "--shard_size"
    )


@dataclass(frozen=True)
class NetworkSettings(DataSettings):
    """What is trained."""

    n_genes: int | None = network_option("Number of genes, most variable first.", "--n_highly_variable_genes")
    max_length: int | None = network_option("Number of words: that of genes and 8 others.", "--max_length")
    n_bins: int | None = network_option("Expression bins; 2 for binary.", "--num_bins")
    binning: str | None = network_option("quantile or original.")
    threshold: float | None = network_option("Expression from which on a gene is expressed.")
    expression_min: float | None = network_option(
        "Lower edge of bin 1, if above 0; --threshold goes before.", "--expression_min_value"
    )
    expression_max: float | None = network_option("Lower edge of the last bin.", "--expression_max_value")
    model_name: str | None = network_option("bert: there is no other.", "--model_name")
    size: str | None = network_option("tiny, or 512 or 2432 for the original's.")
    n_hidden: int | None = network_option("Width of a word.", "--hidden_size")
    n_layers: int | None = network_option("Number of blocks.", "--num_hidden_layers")
    n_heads: int | None = network_option("Attention heads.", "--num_attention_heads")
    n_intermediate: int | None = network_option("Width inside a block.", "--intermediate_size")
    dropout: float | None = network_option("Dropout.")
    linear_path: bool | None = network_option("Discriminants beside the transformer.")
    phenotype_weight: float | None = network_option("Weight of the phenotypes' loss.")
    bin_width: float | None = network_option("Smoothing over neighbouring bins.")
    label_smoothing: float | None = network_option("Smoothing over categories.")


@dataclass(frozen=True)
class TrainSettings(NetworkSettings):
    """Train a model.

    Unset options are as in `pgs.tl.train`; the same seed gives the same model.
    """

    masking: str | None = hiding_option("original: its rates.")
    mask_genes: float | None = hiding_option("Share of expressed genes to hide.", "--mlm_probability")
    mask_not_expressed: str | None = hiding_option("Share of the others, or match: as many as expressed ones.")
    mask_phenotypes: float | None = hiding_option(
        "Probability of a phenotype to be hidden.", "--phenotypic_mlm_probability"
    )
    gene_dropout: float | None = hiding_option("Highest share of genes left out.")
    max_genes: int | None = hiding_option("Most genes that a cell shows.")
    max_epochs: int | None = step_option("Passes over the cells.", "--n_epochs")
    batch_size: int | None = step_option("Cells per step.", "--train_batch_size")
    eval_batch_size: int | None = step_option("Cells per step where held-out cells are scored.", "--eval_batch_size")
    lr: float | None = step_option("Highest learning rate.", "--learning_rate")
    weight_decay: float | None = step_option("Weight decay.")
    warmup: float | None = step_option("Share of the steps to warm up.")
    schedule: str | None = step_option("linear, cosine or constant.")
    early_stopping: bool | None = step_option("Stop when the held-out loss rises.")
    accumulate: int | None = step_option("Batches per step.")
    resume: bool | None = checkpoint_option("Go on from the last checkpoint.")
    save_steps: float | None = checkpoint_option(
        "Steps between checkpoints; below 1 a share of an epoch.", "--save_steps"
    )
    save_epochs: int | None = checkpoint_option("Epochs between checkpoints.")
    checkpoints: Path | None = checkpoint_option("Their folder; by default checkpoints inside of OUTPUT.")
    seed: int | None = option("Seed.")
    device: str | None = option("auto, cpu, cuda, cuda:1, mps.", "--accelerator")
    devices: int | None = machine_option("Number of processes or cards.")
    nodes: int | None = machine_option("Number of machines.")
    strategy: str | None = machine_option("ddp, ….")
    precision: str | None = machine_option("32, bf16-mixed, ….")
    num_workers: int | None = machine_option("Processes that read.")
    quiet: bool | None = option("Say nothing but errors.", "--quiet/--verbose")
    logger: str | None = log_option("wandb, tensorboard or csv; nothing is contacted or written otherwise.")
    log_dir: Path | None = log_option("Folder of the logs; by default logs inside of OUTPUT.")
    project: str | None = log_option("Project of wandb, or name of the logs.")
