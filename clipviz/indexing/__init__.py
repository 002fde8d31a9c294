"""One streaming pass of a model over any collection into an index, alone or under torchrun.

clipviz.Index.build(model, "photos/", "photos.index")                  # or: clipviz index photos/ --out ...
torchrun --nproc-per-node 8 -m clipviz.cli index "shards-{000..999}.tar" --model ViT-L-14 ... --out big.index
"""

from clipviz.indexing.building import append, build
from clipviz.indexing.command import add_arguments, run
from clipviz.indexing.merging import merge
from clipviz.indexing.second import neuron_statistics

__all__ = ["add_arguments", "append", "build", "merge", "neuron_statistics", "run"]
