"""Settings of all commands except `train`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from polygene_scverse.cli._errors import UserError
from polygene_scverse.cli._options import argument, option, option_name

CELLS: Final = "h5ad files or zarr stores: paths, patterns such as shard_{0..46}.h5ad or 'shards/*.h5ad'."

original_option = partial(option, panel="A checkpoint of the original")
log_option = partial(option, panel="Logging")

MANIFEST: Final = "model.json"
"""File in the folder of every saved model. Defined here because importing `model` takes seconds."""

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
"""Options of the original's evaluation command that are not needed with a saved model."""


@dataclass(frozen=True)
class OneModelSettings:
    """Settings of commands that use a model."""

    model: Path | None = option("Folder of a saved model, or of a checkpoint of the original.", "-m", "--model_name")
    vocabulary: Path | None = original_option("Its vocabulary folder.", "--phenotypic_tokens_file")
    genes: str | None = original_option("Its genes: an h5ad file with highly_variable_rank, or a text file.")
    threshold: float | None = original_option("With two bins, the minimum value of an expressed gene.")
    batch_size: int | None = option("Number of cells per step.", "--eval_batch_size", low=1)
    device: str | None = option("auto, cpu, cuda, cuda:1 or mps.", "--accelerator")
    overwrite: bool | None = option("Overwrite existing files.")

    def check(self) -> None:
        """Check that a folder can be a model; called before heavy imports.

        Raises
        ------
        UserError
            If it has neither a saved model nor a checkpoint, or if a checkpoint is given without its vocabulary.
        """
        if self.model is not None:
            check_model_folder(self.model, self.vocabulary)


def check_saved_model(folder: Path) -> None:
    """Check that a folder has a saved model.

    Raises
    ------
    UserError
        If it has none.
    """
    if not (folder / MANIFEST).is_file():
        raise UserError(f"--model: {folder} has no saved model ({MANIFEST}). Pass the folder that one was saved to.")


def check_model_folder(folder: Path, vocabulary: Path | None) -> bool:
    """Whether a folder has a saved model; otherwise it has a checkpoint of the original.

    Raises
    ------
    UserError
        If it has neither, or if a checkpoint is given without its vocabulary.
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
class GeneNameSettings:
    """Columns with gene names."""

    gene_symbols: str | None = option("Column of var with gene symbols.")
    gene_ids: str | None = option("Column of var with Ensembl ids.")

    @property
    def gene_names(self) -> dict[str, Any]:
        """Columns with gene names, as arguments of the functions of `tl`."""
        return {"gene_symbols": self.gene_symbols, "gene_ids": self.gene_ids}


@dataclass(frozen=True)
class ModelSettings(GeneNameSettings, OneModelSettings):
    """Settings of commands that use a model and cells."""

    paths: list[str] | None = argument(CELLS, metavar="DATA...")
    data: list[str] | None = option("The same as DATA.", "--eval_data_path")


@dataclass(frozen=True)
class FilesSettings(ModelSettings):
    """Settings of commands that write an output for each input."""

    output: Path | None = option("File to write (.h5ad, .zarr, .csv, .tsv); a folder for several.", "-o")
    format: str | None = option("With several files: h5ad, zarr, csv or tsv.")


@dataclass(frozen=True)
class EvaluateSettings(ModelSettings):
    """Hide tokens of cells, predict them, and score the predictions.

    Writes scores.csv and, for genes and each phenotype, a confusion matrix as a table and as a figure. For
    cross-validation against baselines, use `pgs.tl.evaluate` in Python.
    """

    output: Path | None = option("Folder to write to.", "-o", "--output_dir")
    phenotypes: list[str] | None = option(
        "Phenotypes to write confusion matrices of; by default all.", "--sequence_types"
    )
    masking: str | None = option("original: hide 15 % of all genes and half of the phenotypes.")
    mask_genes: float | None = option(
        "Fraction of genes to hide; the other rates are then those of the original.",
        "--mlm_probability",
        low=0,
        high=1,
    )
    mask_phenotypes: float | None = option(
        "Probability that a phenotype is hidden; the other rates are then those of the original.",
        "--phenotypic_mlm_probability",
        low=0,
        high=1,
    )
    given: list[str] | None = option("Recorded phenotypes to show to the model.")
    hidden_share: float | None = option("Fraction of the other genes to hide as well, from 0 to 1.", low=0, high=1)
    balance: float | None = option("0 for the most probable category, 1 for balanced.", low=0, high=1)
    figures: bool | None = option("Plot the confusion matrices.")
    seed: int | None = option("Random seed.")
    logger: str | None = log_option("wandb, tensorboard or csv; by default nothing is logged.")
    log_dir: Path | None = log_option("Folder of the logs; by default OUTPUT/logs.")
    project: str | None = log_option("Project in wandb, or name of the logs.")


@dataclass(frozen=True)
class PredictSettings(FilesSettings):
    """Predict phenotypes of cells.

    The output is a copy of the input with predictions, or a table (.csv, .tsv) of the predictions alone.
    """

    phenotypes: list[str] | None = option("Phenotypes to predict; by default all.", "--sequence_types")
    given: list[str] | None = option("Recorded phenotypes to show as evidence.")
    balance: float | None = option("0 for the most probable category, 1 for balanced.", low=0, high=1)
    coverage: float | None = option("Add sets that contain the true category in this fraction of cells.", low=0, high=1)
    by_category: bool | None = option("Sets have this coverage within each category.")
    min_confidence: float | None = option("Leave cells with lower confidence unassigned.", low=0, high=1)


@dataclass(frozen=True)
class CheckSettings(ModelSettings):
    """Check whether cells fit a model: genes, scale, labels and expected accuracy."""


@dataclass(frozen=True)
class EmbedSettings(FilesSettings):
    """Embed cells.

    The output is a copy of the input with the embedding, or a table (.csv, .tsv) of the embedding alone.
    """

    pooling: str | None = option("decision, phenotypes, genes, cls, or a phenotype.")
    given: list[str] | None = option("Recorded phenotypes to show to the model.")
    umap: bool | None = option("Compute a UMAP.")
    n_neighbors: int | None = option("Number of neighbours for the UMAP.", low=2)
    seed: int | None = option("Random seed.")


@dataclass(frozen=True)
class NoveltySettings(FilesSettings):
    """Score how unlike the training cells each cell is.

    The output is a copy of the input with the score, or a table (.csv, .tsv) of the score alone.
    """

    phenotype: str | None = option("Phenotype whose categories are the known types.")


@dataclass(frozen=True)
class FillSettings(FilesSettings):
    """Predict the missing values of recorded phenotypes.

    The output is a copy of the input with the filled columns, or a table (.csv, .tsv) of these columns alone.
    """

    phenotypes: list[str] | None = option("Phenotypes to fill; by default all.", "--sequence_types")
    given: list[str] | None = option("Recorded phenotypes to use as evidence; by default all.")
    balance: float | None = option("0 for the most probable category, 1 for balanced.", low=0, high=1)


@dataclass(frozen=True)
class ImputeSettings(FilesSettings):
    """Denoise measured genes and impute unmeasured ones.

    The output has only the requested genes, as the mean of log1p of counts per 10,000, dense. Its size is printed
    first.
    """

    ARGUMENTS: ClassVar = {"genes": "--only"}

    only: list[str] | None = option("Genes of the model, separated by commas; by default all.")
    given: list[str] | None = option("Recorded phenotypes to show to the network.")
    keep: float | None = option(
        "Predict measured genes with the network, showing this fraction of the others.", low=0, high=1
    )
    log: bool | None = option("Mean of log1p of counts per 10,000; --no-log for counts per 10,000.")
    seed: int | None = option("Random seed.")


@dataclass(frozen=True)
class CounterfactualSettings(FilesSettings):
    """Predict expression of the same cells with a phenotype set to another category.

    This is an association learned from observational data, not the outcome of an experiment. The output has the
    predicted expression with the phenotype set and as recorded, or is a table (.csv, .tsv) with the shift and the
    observed difference of each gene, and a test over groups.
    """

    ARGUMENTS: ClassVar = {"genes": "--only", "phenotypes": "--set"}

    set: list[str] | None = option("Category to set a phenotype to in every cell: condition=stimulated.")
    only: list[str] | None = option("Genes of the model, separated by commas; by default all.")
    keep: float | None = option("Fraction of the cell's own genes to show, at least 0 and below 1.", low=0, high=1)
    groupby: str | None = option("For a table: obs column such as the cell type.")
    group_key: str | None = option("For a table: obs column of donors or samples, for the test.")
    seed: int | None = option("Random seed.")


@dataclass(frozen=True)
class PerturbSettings(FilesSettings):
    """Predict the effect of silencing or overexpressing genes, tested against random genes.

    This is an association learned from observational data, not the outcome of an experiment. The output has a row for
    each perturbation, or is a table (.csv, .tsv) of one outcome.
    """

    ARGUMENTS: ClassVar = {"genes": "--perturb"}

    perturb: list[str] | None = option("Genes, separated by commas; STAT1+STAT2 are perturbed together.")
    kind: str | None = option("knockout or overexpress.", choices=("knockout", "overexpress"))
    responses: list[str] | None = option("Genes whose expression is predicted, separated by commas.")
    n_null: int | None = option("Number of random genes.", low=0)
    outcome: str | None = option("For a table: a phenotype, embedding, expression or genes.")
    seed: int | None = option("Random seed.")


@dataclass(frozen=True)
class GenerateSettings(OneModelSettings):
    """Generate new cells with given phenotypes.

    The output has counts, log1p of counts per 10,000, and the phenotypes of each cell.
    """

    given: list[str] | None = option("Category of a phenotype: condition=stimulated. Other phenotypes are sampled.")
    n_obs: int | None = option("Number of cells.", low=1)
    output: Path | None = option("File to write (.h5ad, .zarr).", "-o")
    allow_unseen: bool | None = option("Allow combinations that no training cell had; they are marked.")
    depth: float | None = option("Total counts of each cell; by default drawn from the training cells.", low=1)
    n_rounds: int | None = option("Rounds in which the network draws genes; by default the network is not used.", low=1)
    temperature: float | None = option("Divides the logits.", low=0)
    seed: int | None = option("Random seed.")


@dataclass(frozen=True)
class AuditSettings(GeneNameSettings):
    """Find recorded phenotypes that the expression contradicts, such as swapped samples.

    Trains a model for each fold. The output is a table (.csv, .tsv) with a row per sample; pgs.tl.audit in Python also
    assesses single cells.
    """

    paths: list[str] | None = argument("An h5ad file or a zarr store.", metavar="DATA")
    model: Path | None = option("Folder of a model trained on other cells, to use instead of training.", "-m")
    output: Path | None = option("Table to write (.csv, .tsv).", "-o")
    overwrite: bool | None = option("Overwrite existing files.")
    phenotypes: list[str] | None = option("Obs columns to audit; by default those with a common name.")
    sample_key: str | None = option("Obs column of the samples, within which a phenotype must be constant.")
    group_key: str | None = option(
        "Obs column of groups that are kept in one fold, such as donors; by default the samples."
    )
    n_folds: int | None = option("Number of folds.", low=2)
    max_epochs: int | None = option("Number of passes over the cells in each training.", low=0)
    layer: str | None = option("Layer to use instead of X.")
    use_raw: bool | None = option("Use raw instead of X.")
    seed: int | None = option("Random seed.")

    def check(self) -> None:
        """Check the folder of the model, see `check_saved_model`; called before heavy imports."""
        if self.model is not None:
            check_saved_model(self.model)


@dataclass(frozen=True)
class ImportSettings:
    """Convert a checkpoint of the original to a model."""

    folder: Path | None = argument("Folder with config.json and the weights.")
    vocabulary: Path | None = option("Its vocabulary folder, by default FOLDER.", "--phenotypic_tokens_file")
    genes: str | None = option("Its genes: h5ad with highly_variable_rank, or text; by default FOLDER/genes.txt.")
    output: Path | None = option("Folder of the model.", "-o", "--output_dir")
    n_bins: int | None = option("Expected number of bins, as a check.", "--num_bins")
    threshold: float | None = option("With two bins, the minimum value of an expressed gene.")
    columns: list[str] | None = option("Obs column of a phenotype, if it has another name: age=years.")
    layer: str | None = option("Layer to use instead of X.")
    use_raw: bool | None = option("Use raw instead of X.")
    overwrite: bool | None = option("Overwrite existing files.")


def needed(settings: Any, *names: str) -> tuple[Any, ...]:
    """Return the values of required settings.

    Raises
    ------
    UserError
        If the check fails.
    """
    if absent := [option_name(settings, name) for name in names if getattr(settings, name) is None]:
        listed = " and ".join([", ".join(absent[:-1]), absent[-1]] if len(absent) > 1 else absent)
        raise UserError(f"{listed} {'are' if len(absent) > 1 else 'is'} required. See --help.")
    return tuple(getattr(settings, name) for name in names)
