"""Data: images, texts and the files of an index. Each module is loaded when first used."""

from clipviz import lazily

__all__ = ["dictionary", "images", "texts"]

__getattr__ = lazily.modules_of(__name__)
