"""Peak memory of training a configuration at full size, compared with the memory of its parameters.

    python benchmarks/train_memory.py BIWI --corpus biwi --config data/configs/paper-biwi.yaml --lip-mask lve.txt

Trains four steps of all stages on a corpus in BIWI's or VOCASET's layout (a miniature suffices: kmtalk corpus build
biwi -o BIWI). The reference is 20 bytes per parameter: weights, gradients, Adam's two moments and the moving average,
in float32. The encoder is log-mel, which needs no download; with --finetuned-encoder FOLDER the wav2vec 2.0
in it is fine-tuned and counted (untrained weights need the same memory).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

from kmtalk.progress import Progress
from kmtalk.training.config import load_config
from kmtalk.training.data import prepare_task
from kmtalk.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--corpus", dest="kind", default="biwi")
    parser.add_argument("--config", type=Path, default=Path("data/configs/paper-biwi.yaml"))
    parser.add_argument("--lip-mask", required=True, help="file with the indices of the lip vertices")
    parser.add_argument("--finetuned-encoder", type=Path, help="folder of a wav2vec 2.0 to fine-tune")
    options = parser.parse_args()
    config = load_config(options.config)
    corpora = (config.corpora[0].model_copy(update={"path": options.corpus, "lip_mask": options.lip_mask}),)
    steps = config.steps.model_copy(update={"key_motion": 1, "completion": 2, "joint": 1})
    folder = options.finetuned_encoder
    encoder = {"encoder": f"wav2vec2:{folder}", "finetune_encoder": True} if folder else {"encoder": "log-mel"}
    config = config.model_copy(update={**encoder, "corpora": corpora, "steps": steps, "eval_every": 1000})
    with tempfile.TemporaryDirectory() as folder:
        run = Trainer(config, prepare_task(config, Path(folder), Progress()), Path(folder))
        longest = max(len(e.motion) / e.fps for group in run.task.groups for e in group)
        for _ in range(config.steps.total):
            run.train_step()
    parameters = sum(p.numel() for p in run.network.parameters())
    parameter_memory, peak = 20 * parameters / 1e9, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{options.config.stem}: {parameters:,} parameters, batch {config.batch_size}, clips of up to {longest:.1f} s; "
        f"peak {peak:.1f} GB, {peak / parameter_memory:.2f} x the {parameter_memory:.1f} GB of 20 bytes per "
        "parameter | "
        f"{run.task.metadata['data']}"
    )


if __name__ == "__main__":
    main()
