"""A peer's near duplicates: `PYTHON benchmarks/curate_peers.py PEER TEXTS --threshold T --ngram N`.

Runs in the Python of the peer (rensa, datasketch or datatrove installed), on a JSON list of texts,
and prints how long it took from texts to the texts that go, and which those are. All use runs of N
words, 128 permutations and the same bands of rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any


def shingles(text: str, n: int) -> list[str]:
    """A text's runs of n words."""
    words = text.split()
    return [" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]


def in_order(sketches: Iterator[Any], index: Any, threshold: float) -> list[int]:
    """Those that go, if one before that stays is found by a peer's index and estimated as like."""
    kept: dict[int, Any] = {}
    gone = []
    for number, sketch in enumerate(sketches):
        near = (kept[int(other)] for other in index.query(sketch) if int(other) in kept)
        if any(sketch.jaccard(other) >= threshold for other in near):
            gone.append(number)
        else:
            kept[number] = sketch
            index.insert(number, sketch)
    return gone


def by_rensa(texts: list[str], threshold: float, n: int, bands: int) -> list[int]:
    """Rensa's MinHash and LSH."""
    from rensa import RMinHash, RMinHashLSH

    def sketches() -> Iterator[RMinHash]:
        for text in texts:
            sketch = RMinHash(num_perm=128, seed=1)
            sketch.update(shingles(text, n))
            yield sketch

    index = RMinHashLSH(threshold=threshold, num_perm=128, num_bands=bands)
    return in_order(sketches(), index, threshold)


def by_datasketch(texts: list[str], threshold: float, n: int, bands: int) -> list[int]:
    """Datasketch's MinHash and LSH."""
    from datasketch import MinHash, MinHashLSH

    def sketches() -> Iterator[MinHash]:
        for text in texts:
            sketch = MinHash(num_perm=128, seed=1)
            sketch.update_batch([one.encode() for one in shingles(text, n)])
            yield sketch

    index = MinHashLSH(num_perm=128, params=(bands, 128 // bands))
    return in_order(sketches(), index, threshold)


def by_datatrove(texts: list[str], threshold: float, n: int, bands: int) -> list[int]:
    """Datatrove's four stages of MinHash deduplication, one task each."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    folder = Path(tempfile.mkdtemp())
    config = MinhashConfig(n_grams=n, num_buckets=bands, hashes_per_bucket=128 // bands)
    names = {name: str(folder / name) for name in ("signatures", "buckets", "ids")}
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    signature = MinhashDedupSignature(output_folder=names["signatures"], config=config)
    list(signature.run(iter(documents), rank=0, world_size=1) or [])
    buckets = MinhashDedupBuckets(
        input_folder=names["signatures"], output_folder=names["buckets"], config=config
    )
    for bucket in range(bands):
        list(buckets.run(None, rank=bucket, world_size=bands) or [])
    cluster = MinhashDedupCluster(
        input_folder=names["buckets"], output_folder=names["ids"], config=config
    )
    cluster.run(None, 0, 1)
    dedup = MinhashDedupFilter(input_folder=names["ids"])
    kept = {int(one.id) for one in dedup.run(iter(documents), rank=0, world_size=1)}
    shutil.rmtree(folder)
    return [number for number in range(len(texts)) if number not in kept]


PEERS = {"rensa": by_rensa, "datasketch": by_datasketch, "datatrove": by_datatrove}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--ngram", type=int, required=True)
    parser.add_argument("--bands", type=int, required=True)
    asked = parser.parse_args()
    texts = json.loads(asked.texts.read_text(encoding="utf-8"))
    PEERS[asked.peer](texts[:20], asked.threshold, asked.ngram, asked.bands)  # imports, compiles
    begin = time.perf_counter()
    gone = PEERS[asked.peer](texts, asked.threshold, asked.ngram, asked.bands)
    seconds = time.perf_counter() - begin
    print(
        "RESULT " + json.dumps({"version": version(asked.peer), "seconds": seconds, "gone": gone})
    )


if __name__ == "__main__":
    main()
