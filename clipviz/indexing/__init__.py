"""The Index, and the streaming pass of a model that builds one from any collection, alone or under torchrun.

clipviz.Index.build(model, "photos/", "photos.index")                  # or: clipviz index photos/ --out ...
torchrun --nproc-per-node 8 -m clipviz.cli index "shards-{000..999}.tar" --model ViT-L-14 ... --out big.index
"""

from clipviz.indexing.index import Index, Statistics

__all__ = ["Index", "Statistics"]
