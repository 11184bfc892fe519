"""Train in several processes; see distributed.md for how it is started.

python train_distributed.py cells.h5ad model --devices 2 --accelerator cpu
torchrun --nproc-per-node 2 train_distributed.py cells.h5ad model --devices 2
srun python train_distributed.py cells.h5ad model --devices 4 --nodes 2
"""

import argparse

import anndata as ad

import polygene_scverse as pgs


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", help="h5ad file")
    parser.add_argument("model", help="folder that the model is saved to")
    parser.add_argument("--group-key", help="obs column of donors; some are held out")
    parser.add_argument("--batch-size", type=int, default=16, help="cells per batch, over all processes")
    parser.add_argument("--accumulate", type=int, default=1, help="batches that make a step")
    parser.add_argument("--max-epochs", type=int)
    parser.add_argument("--size", default="tiny", help="named size of the network")
    parser.add_argument("--early-stopping", action="store_true")
    parser.add_argument("--devices", type=int, default=1, help="processes on each machine")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--strategy", default="ddp")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--checkpoints", help="folder of checkpoints; a job that begins again goes on from there")
    return parser.parse_args()


def main() -> None:
    """Each process runs all of this on the same cells; the first one saves."""
    args = arguments()
    model = pgs.tl.train(
        ad.read_h5ad(args.cells),
        group_key=args.group_key,
        max_epochs=args.max_epochs,
        verbose=False,
        save_to=args.model,
        model_kwargs={"size": args.size},
        batch_size=args.batch_size,
        accumulate_grad_batches=args.accumulate,
        early_stopping=args.early_stopping,
        checkpoints={"folder": args.checkpoints, "resume": True} if args.checkpoints else None,
        devices=args.devices,
        num_nodes=args.nodes,
        accelerator=args.accelerator,
        strategy=args.strategy if args.devices * args.nodes > 1 else "auto",
        precision=args.precision,
    )
    if model.trainer.is_global_zero:
        print({name: round(float(table.iloc[-1, 0]), 4) for name, table in model.history_.items()})


if __name__ == "__main__":  # processes that are spawned import this file
    main()
