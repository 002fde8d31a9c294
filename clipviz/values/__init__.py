"""Frozen values shared by every room, and the glossary of axes.

Axis words, always in this order:
    image, layer, head, token, neuron, text, d_model, d_head, d_embed
Layers and heads are counted from 0; token 0 is the class token, where there is one; a layer is an attention and
its MLP. Symbols of the thesis: c_{i,l,h} (Eq. 2.6) is a token effect, c_head^{l,h} a head effect, M_text(t) a
text direction, phi_n^l (Eq. 3.3) a second-order effect.

Values that lenses return hold tensors. Codes and Concepts that were read from files hold NumPy arrays.
"""

from clipviz.values.axes import N_LATE, Head, Rows, late_layers, neuron_layers, rows_of, whole, wholes
from clipviz.values.codes import Codes, HeadBasis
from clipviz.values.concepts import Concepts, Matches, UnitThumbnails
from clipviz.values.latents import Latents, numbers_of, with_numbers
from clipviz.values.progress import Progress, counted, unwatched
from clipviz.values.selection import Ablation, Selection, SelectionFields, View, check_characters
from clipviz.values.tasks import Task
from clipviz.values.texts import SparseCode, TextBasis
from clipviz.values.towers import LayerWeights, Readout, TowerWeights
from clipviz.values.training import TrainingLog

__all__ = [
    "N_LATE",
    "Ablation",
    "Codes",
    "Concepts",
    "Head",
    "HeadBasis",
    "Latents",
    "LayerWeights",
    "Matches",
    "Progress",
    "Readout",
    "Rows",
    "Selection",
    "SelectionFields",
    "SparseCode",
    "Task",
    "TextBasis",
    "TowerWeights",
    "TrainingLog",
    "UnitThumbnails",
    "View",
    "check_characters",
    "counted",
    "late_layers",
    "neuron_layers",
    "numbers_of",
    "rows_of",
    "unwatched",
    "whole",
    "wholes",
    "with_numbers",
]
