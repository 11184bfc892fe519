"""Settings of the commands but `train`, and those that several commands have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._options import option

CELLS: Final = "h5ad files or zarr stores: paths, patterns such as shard_{0..46}.h5ad or 'shards/*.h5ad'."
ORIGINALS_MODEL: Final = "A checkpoint of the original"

Paths = Annotated[list[str] | None, typer.Argument(metavar="DATA...", help=CELLS, show_default=False)]
Data = Annotated[list[str] | None, option("The same as DATA.", "--data", "--eval_data_path")]
Model = Annotated[
    Path | None,
    option("Folder of a saved model, or of a checkpoint of the original.", "--model", "-m", "--model_name"),
]
Vocabulary = Annotated[
    Path | None,
    option(
        "Its vocabulary folder, by default FOLDER.", "--vocabulary", "--phenotypic_tokens_file", panel=ORIGINALS_MODEL
    ),
]
Genes = Annotated[
    str | None,
    option("Its genes: an h5ad file with highly_variable_rank, or a text file.", "--genes", panel=ORIGINALS_MODEL),
]
Threshold = Annotated[
    float | None, option("With two bins, where expression begins.", "--threshold", panel=ORIGINALS_MODEL)
]
BatchSize = Annotated[int | None, option("Cells per step.", "--batch-size", "--eval_batch_size")]
Seed = Annotated[int | None, option("Seed.", "--seed")]
Device = Annotated[str | None, option("auto, cpu, cuda, cuda:1, mps.", "--device", "--accelerator")]
Overwrite = Annotated[bool | None, option("Replace what is there.", "--overwrite/--no-overwrite")]
Logger = Annotated[
    str | None,
    option("wandb, tensorboard or csv; nothing is contacted or written otherwise.", "--logger", panel="Logging"),
]
LogDir = Annotated[
    Path | None, option("Folder of the logs; by default logs inside of OUTPUT.", "--log-dir", panel="Logging")
]
Project = Annotated[str | None, option("Project of wandb, or name of the logs.", "--project", panel="Logging")]

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

    paths: Paths = None
    data: Data = None
    model: Model = None
    vocabulary: Vocabulary = None
    genes: Genes = None
    threshold: Threshold = None
    batch_size: BatchSize = None
    device: Device = None
    overwrite: Overwrite = None


@dataclass(frozen=True)
class EvaluateSettings(ModelSettings):
    """Hide tokens of cells, let a model guess them, and score the guesses.

    Writes scores.csv and, for genes and each phenotype, a confusion matrix as a table and as a figure.
    """

    output: Annotated[Path | None, option("Folder to write to.", "--output", "-o", "--output_dir")] = None
    phenotypes: Annotated[
        list[str] | None, option("Phenotypes to write matrices of; all by default.", "--phenotypes", "--sequence_types")
    ] = None
    masking: Annotated[str | None, option("original: hide 15 % of all genes, half of the phenotypes.", "--masking")] = (
        None
    )
    mask_genes: Annotated[float | None, option("Share of genes to hide.", "--mask-genes", "--mlm_probability")] = None
    mask_phenotypes: Annotated[
        float | None,
        option("Probability of a phenotype to be hidden.", "--mask-phenotypes", "--phenotypic_mlm_probability"),
    ] = None
    given: Annotated[list[str] | None, option("Phenotypes that are shown as recorded.", "--given")] = None
    hidden_share: Annotated[
        float | None, option("Share of the other genes to hide too, from 0 to 1.", "--hidden-share")
    ] = None
    balance: Annotated[float | None, option("0: the most probable category; 1: balanced.", "--balance")] = None
    figures: Annotated[bool | None, option("Draw the matrices.", "--figures/--no-figures")] = None
    seed: Seed = None
    logger: Logger = None
    log_dir: LogDir = None
    project: Project = None


@dataclass(frozen=True)
class PredictSettings(ModelSettings):
    """Predict phenotypes of cells.

    The output is a copy of the input with predictions, or a table (.csv, .tsv) of the predictions alone.
    """

    output: Annotated[
        Path | None, option("File to write (.h5ad, .zarr, .csv, .tsv); a folder for several.", "--output", "-o")
    ] = None
    format: Annotated[str | None, option("With several files: h5ad, zarr, csv or tsv.", "--format")] = None
    phenotypes: Annotated[
        list[str] | None, option("Phenotypes; all by default.", "--phenotypes", "--sequence_types")
    ] = None
    given: Annotated[list[str] | None, option("Recorded phenotypes to show as evidence.", "--given")] = None
    balance: Annotated[float | None, option("0: the most probable category; 1: balanced.", "--balance")] = None


@dataclass(frozen=True)
class EmbedSettings(ModelSettings):
    """Embed cells.

    The output is a copy of the input with the embedding, or a table (.csv, .tsv) of the embedding alone.
    """

    output: Annotated[
        Path | None, option("File to write (.h5ad, .zarr, .csv, .tsv); a folder for several.", "--output", "-o")
    ] = None
    format: Annotated[str | None, option("With several files: h5ad, zarr, csv or tsv.", "--format")] = None
    pooling: Annotated[str | None, option("decision, phenotypes, genes, cls, or a phenotype.", "--pooling")] = None
    umap: Annotated[bool | None, option("Compute a UMAP.", "--umap/--no-umap")] = None
    n_neighbors: Annotated[int | None, option("Neighbours for the UMAP.", "--n-neighbors")] = None
    seed: Seed = None


@dataclass(frozen=True)
class ImportSettings:
    """Turn a checkpoint of the original into a model."""

    folder: Annotated[
        Path | None, typer.Argument(help="Folder with config.json and the weights.", show_default=False)
    ] = None
    vocabulary: Annotated[
        Path | None, option("Its vocabulary folder, by default FOLDER.", "--vocabulary", "--phenotypic_tokens_file")
    ] = None
    genes: Annotated[
        str | None,
        option("Its genes: h5ad with highly_variable_rank, or text; by default FOLDER/genes.txt.", "--genes"),
    ] = None
    output: Annotated[Path | None, option("Folder of the model.", "--output", "-o", "--output_dir")] = None
    n_bins: Annotated[int | None, option("Number of bins, to be checked.", "--n-bins", "--num_bins")] = None
    threshold: Annotated[float | None, option("With two bins, where expression begins.", "--threshold")] = None
    columns: Annotated[
        list[str] | None, option("Obs column of a phenotype where it has another name: age=years.", "--columns")
    ] = None
    layer: Annotated[str | None, option("Layer to read instead of X.", "--layer")] = None
    use_raw: Annotated[bool | None, option("Read raw instead of X.", "--use-raw/--no-use-raw")] = None
    overwrite: Overwrite = None


def needed(settings: Any, *names: str) -> tuple[Any, ...]:
    """Values of settings that must be there.

    Raises
    ------
    UserError
        As said.
    """
    if absent := [name for name in names if getattr(settings, name) is None]:
        raise UserError(f"needed, and not given: {', '.join(absent)}. See --help.")
    return tuple(getattr(settings, name) for name in names)
