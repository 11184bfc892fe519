"""Settings of `train`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from polygene_scverse.cli._options import argument, option
from polygene_scverse.cli._settings import CELLS, check_saved_model, log_option

data_option = partial(option, panel="Data")
network_option = partial(option, panel="Network")
hiding_option = partial(option, panel="Masking")
step_option = partial(option, panel="Training")
checkpoint_option = partial(option, panel="Checkpoints")
machine_option = partial(option, panel="Machine")


@dataclass(frozen=True)
class DataSettings:
    """Settings of the training data."""

    paths: list[str] | None = argument(CELLS, metavar="DATA...")
    train_data: list[str] | None = data_option("The same as DATA.", "--train_data_path")
    eval_data: list[str] | None = data_option(
        "Files of cells to hold out, instead of a random split.", "--eval_data_path"
    )
    model: Path | None = data_option("Folder of a saved model to train further, on one file.")
    output: Path | None = option("Folder of the model.", "-o", "--output_dir")
    overwrite: bool | None = option("Overwrite existing files.")
    phenotypes: list[str] | None = data_option(
        "Obs columns to learn; by default those with a common name.", "--sequence_types"
    )
    vocabulary: Path | None = data_option(
        "Folder with the original's lists of categories, which must contain the labels.", "--phenotypic_tokens_file"
    )
    ordered: list[str] | None = data_option("Phenotypes whose categories have an order.")
    missing: list[str] | None = data_option(
        "Labels that are read as missing, instead of unknown, unassigned, nan and n/a."
    )
    group_key: str | None = data_option("Obs column of donors or samples, which are held out as a whole.")
    validation_size: float | None = data_option("Fraction of the cells, or groups, to hold out.", low=0, high=1)
    layer: str | None = data_option("Layer to use instead of X.")
    use_raw: bool | None = data_option("Use raw instead of X.")
    gene_symbols: str | None = data_option("Column of var with gene symbols to use as names, with one file.")
    gene_ids: str | None = data_option("Column of var with Ensembl ids to use as names, with one file.")
    buffer_cells: int | None = data_option(
        "Stream from disk with this many cells in memory; always used for several files.", "--shard_size", low=1
    )


@dataclass(frozen=True)
class NetworkSettings(DataSettings):
    """Settings of the network."""

    n_genes: int | None = network_option("Number of genes, most variable first.", "--n_highly_variable_genes", low=1)
    max_length: int | None = network_option("Number of tokens: genes and 8 others.", "--max_length")
    n_bins: int | None = network_option("Number of expression bins; 2 for binary.", "--num_bins", low=2)
    binning: str | None = network_option("quantile or original.", choices=("quantile", "original"))
    threshold: float | None = network_option("Minimum value of an expressed gene.")
    expression_min: float | None = network_option(
        "Lower edge of bin 1, if above 0; --threshold takes precedence.", "--expression_min_value"
    )
    expression_max: float | None = network_option("Lower edge of the last bin.", "--expression_max_value")
    model_name: str | None = network_option("bert, the only network.", "--model_name")
    size: str | None = network_option("tiny, or 512 or 2432 for the sizes of the original.")
    n_hidden: int | None = network_option("Number of hidden units.", "--hidden_size", low=1)
    n_layers: int | None = network_option("Number of blocks.", "--num_hidden_layers", low=1)
    n_heads: int | None = network_option("Number of attention heads.", "--num_attention_heads", low=1)
    n_intermediate: int | None = network_option(
        "Number of hidden units in the feed-forward layers.", "--intermediate_size", low=1
    )
    dropout: float | None = network_option("Dropout.", low=0, high=1)
    linear_path: bool | None = network_option("Combine the transformer with linear discriminants.")
    phenotype_weight: float | None = network_option("Weight of phenotypes in the loss.")
    bin_width: float | None = network_option("Label smoothing over neighbouring bins.")
    label_smoothing: float | None = network_option("Label smoothing over categories.")


@dataclass(frozen=True)
class TrainSettings(NetworkSettings):
    """Train a model.

    Unset options use the defaults of `pgs.tl.train`; the same seed gives the same model.
    """

    masking: str | None = hiding_option("original, for the rates of the original.")
    mask_genes: float | None = hiding_option("Fraction of expressed genes to hide.", "--mlm_probability", low=0, high=1)
    mask_not_expressed: str | None = hiding_option(
        "Fraction of not-expressed genes to hide, or match for as many as expressed ones."
    )
    mask_phenotypes: float | None = hiding_option(
        "Probability that a phenotype is hidden.", "--phenotypic_mlm_probability", low=0, high=1
    )
    gene_dropout: float | None = hiding_option("Maximum dropout rate of genes.", low=0, high=1)
    max_genes: int | None = hiding_option("Maximum number of genes to show.", low=1)
    max_epochs: int | None = step_option("Number of passes over the cells.", "--n_epochs", low=0)
    batch_size: int | None = step_option("Number of cells per step.", "--train_batch_size", low=1)
    eval_batch_size: int | None = step_option(
        "Number of cells per step when scoring held-out cells.", "--eval_batch_size", low=1
    )
    lr: float | None = step_option("Maximum learning rate.", "--learning_rate")
    weight_decay: float | None = step_option("Weight decay.")
    warmup: float | None = step_option("Fraction of the steps for warm-up.", low=0, high=1)
    schedule: str | None = step_option(
        "Learning rate schedule: linear, cosine or constant.", choices=("linear", "cosine", "constant")
    )
    early_stopping: bool | None = step_option("Stop when the validation loss no longer improves.")
    accumulate: int | None = step_option("Number of batches to accumulate per step.", low=1)
    resume: bool | None = checkpoint_option("Resume from the last checkpoint.")
    save_steps: float | None = checkpoint_option(
        "Steps between checkpoints; values below 1 are fractions of an epoch.", "--save_steps"
    )
    save_epochs: int | None = checkpoint_option("Epochs between checkpoints.", low=1)
    checkpoints: Path | None = checkpoint_option("Folder of the checkpoints; by default OUTPUT/checkpoints.")
    seed: int | None = option("Random seed.")
    device: str | None = option("auto, cpu, cuda, cuda:1 or mps.", "--accelerator")
    devices: int | None = machine_option("Number of processes or GPUs.", low=1)
    nodes: int | None = machine_option("Number of machines.", low=1)
    strategy: str | None = machine_option("ddp, ….")
    precision: str | None = machine_option("32, bf16-mixed, ….")
    num_workers: int | None = machine_option("Number of data loader workers.", low=0)
    quiet: bool | None = option("Print only errors.", "--quiet/--verbose")
    logger: str | None = log_option("wandb, tensorboard or csv; by default nothing is logged.")
    log_dir: Path | None = log_option("Folder of the logs; by default OUTPUT/logs.")
    project: str | None = log_option("Project in wandb, or name of the logs.")

    def check(self) -> None:
        """Check the folder of the model, see `check_saved_model`; called before heavy imports."""
        if self.model is not None:
            check_saved_model(self.model)
