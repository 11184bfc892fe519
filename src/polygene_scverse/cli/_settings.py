"""Settings of the commands but `train`, and those that several commands have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._options import argument, option, option_name

CELLS: Final = "h5ad files or zarr stores: paths, patterns such as shard_{0..46}.h5ad or 'shards/*.h5ad'."

original_option = partial(option, panel="A checkpoint of the original")
log_option = partial(option, panel="Logging")

MANIFEST: Final = "model.json"
"""File that every saved model has; `model` writes it, and importing that takes seconds."""

IGNORED: Final = (
    "--n_epochs",
    "--train_batch_size",
    "--learning_rate",
    "--hidden_size",
    "--num_hidden_layers",
    "--num_attention_heads",
    "--shard_size",
    "--train_data_path",
    "--max_length",
    "--n_highly_variable_genes",
    "--save_steps",
    "--expression_max_value",
    "--expression_min_value",
    "--num_bins",
)
"""Options of the original's evaluation command that a saved model makes superfluous."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model, which cells, and where."""

    paths: list[str] | None = argument(CELLS, metavar="DATA...")
    data: list[str] | None = option("The same as DATA.", "--eval_data_path")
    model: Path | None = option("Folder of a saved model, or of a checkpoint of the original.", "-m", "--model_name")
    vocabulary: Path | None = original_option("Its vocabulary folder, by default FOLDER.", "--phenotypic_tokens_file")
    genes: str | None = original_option("Its genes: an h5ad file with highly_variable_rank, or a text file.")
    threshold: float | None = original_option("With two bins, where expression begins.")
    batch_size: int | None = option("Cells per step.", "--eval_batch_size")
    device: str | None = option("auto, cpu, cuda, cuda:1, mps.", "--accelerator")
    overwrite: bool | None = option("Replace what is there.")

    def check(self) -> None:
        """Refuse a folder that cannot be a model; called before anything heavy is imported.

        Raises
        ------
        UserError
            If it holds neither a saved model nor a checkpoint, or a checkpoint is named without its vocabulary.
        """
        if self.model is not None:
            check_model_folder(self.model, self.vocabulary)


def check_model_folder(folder: Path, vocabulary: Path | None) -> bool:
    """Whether a folder holds a saved model; otherwise it holds a checkpoint of the original.

    Raises
    ------
    UserError
        If it holds neither, or a checkpoint is named without its vocabulary.
    """
    if not folder.is_dir():
        raise UserError(f"--model: there is no folder {folder}. Pass the folder that a model was saved to.")
    if (folder / MANIFEST).is_file():
        return True
    if not (folder / "config.json").is_file():
        raise UserError(
            f"--model: {folder} contains neither a saved model ({MANIFEST}) nor a checkpoint (config.json)."
        )
    if vocabulary is None:
        raise UserError(f"--vocabulary is required, because {folder} is a checkpoint of the original.")
    return False


@dataclass(frozen=True)
class EvaluateSettings(ModelSettings):
    """Hide tokens of cells, let a model guess them, and score the guesses.

    Writes scores.csv and, for genes and each phenotype, a confusion matrix as a table and as a figure.
    """

    output: Path | None = option("Folder to write to.", "-o", "--output_dir")
    phenotypes: list[str] | None = option("Phenotypes to write matrices of; all by default.", "--sequence_types")
    masking: str | None = option("original: hide 15 % of all genes, half of the phenotypes.")
    mask_genes: float | None = option("Share of genes to hide.", "--mlm_probability")
    mask_phenotypes: float | None = option("Probability of a phenotype to be hidden.", "--phenotypic_mlm_probability")
    given: list[str] | None = option("Phenotypes that are shown as recorded.")
    hidden_share: float | None = option("Share of the other genes to hide too, from 0 to 1.")
    balance: float | None = option("0: the most probable category; 1: balanced.")
    figures: bool | None = option("Draw the matrices.")
    seed: int | None = option("Seed.")
    logger: str | None = log_option("wandb, tensorboard or csv; nothing is contacted or written otherwise.")
    log_dir: Path | None = log_option("Folder of the logs; by default logs inside of OUTPUT.")
    project: str | None = log_option("Project of wandb, or name of the logs.")


@dataclass(frozen=True)
class PredictSettings(ModelSettings):
    """Predict phenotypes of cells.

    The output is a copy of the input with predictions, or a table (.csv, .tsv) of the predictions alone.
    """

    output: Path | None = option("File to write (.h5ad, .zarr, .csv, .tsv); a folder for several.", "-o")
    format: str | None = option("With several files: h5ad, zarr, csv or tsv.")
    phenotypes: list[str] | None = option("Phenotypes; all by default.", "--sequence_types")
    given: list[str] | None = option("Recorded phenotypes to show as evidence.")
    balance: float | None = option("0: the most probable category; 1: balanced.")


@dataclass(frozen=True)
class CheckSettings(ModelSettings):
    """Tell in ten lines how cells fit a model: genes, scale, labels, expected accuracy."""

    gene_symbols: str | None = option("Column of var with symbols of the genes.")
    gene_ids: str | None = option("Column of var with ids of the genes.")


@dataclass(frozen=True)
class EmbedSettings(ModelSettings):
    """Embed cells.

    The output is a copy of the input with the embedding, or a table (.csv, .tsv) of the embedding alone.
    """

    output: Path | None = option("File to write (.h5ad, .zarr, .csv, .tsv); a folder for several.", "-o")
    format: str | None = option("With several files: h5ad, zarr, csv or tsv.")
    pooling: str | None = option("decision, phenotypes, genes, cls, or a phenotype.")
    umap: bool | None = option("Compute a UMAP.")
    n_neighbors: int | None = option("Neighbours for the UMAP.")
    seed: int | None = option("Seed.")


@dataclass(frozen=True)
class ImportSettings:
    """Turn a checkpoint of the original into a model."""

    folder: Path | None = argument("Folder with config.json and the weights.")
    vocabulary: Path | None = option("Its vocabulary folder, by default FOLDER.", "--phenotypic_tokens_file")
    genes: str | None = option("Its genes: h5ad with highly_variable_rank, or text; by default FOLDER/genes.txt.")
    output: Path | None = option("Folder of the model.", "-o", "--output_dir")
    n_bins: int | None = option("Number of bins, to be checked.", "--num_bins")
    threshold: float | None = option("With two bins, where expression begins.")
    columns: list[str] | None = option("Obs column of a phenotype where it has another name: age=years.")
    layer: str | None = option("Layer to read instead of X.")
    use_raw: bool | None = option("Read raw instead of X.")
    overwrite: bool | None = option("Replace what is there.")


def needed(settings: Any, *names: str) -> tuple[Any, ...]:
    """Values of settings that must be there.

    Raises
    ------
    UserError
        As said.
    """
    if absent := [option_name(settings, name) for name in names if getattr(settings, name) is None]:
        listed = " and ".join([", ".join(absent[:-1]), absent[-1]] if len(absent) > 1 else absent)
        raise UserError(f"{listed} {'are' if len(absent) > 1 else 'is'} required. See --help.")
    return tuple(getattr(settings, name) for name in names)
