"""The types of the topics' answers, for code that displays them or names them in annotations."""

from clipviz.analysis.collection.atlas import Atlas
from clipviz.analysis.collection.atlas import Words as AtlasWords
from clipviz.analysis.cues.words import Cue, Source
from clipviz.analysis.generation.guides import Guides
from clipviz.analysis.generation.searching import Edited
from clipviz.analysis.heads.ablation import Desk, Outcome, Row
from clipviz.analysis.neurons.layer import Code, Effects, Histogram, LayerNeurons
from clipviz.data.images import Images
from clipviz.lens.cues import Attack
from clipviz.lens.intervals import Estimate
from clipviz.lens.percentiles import Familiarity, Percentiles
from clipviz.lens.segment import SegmentationScore
from clipviz.lens.zeroshot import Accuracy
from clipviz.models.bundle import Studio, TourStep
from clipviz.models.dictionaries.reconstruction import Reconstruction
from clipviz.session.shared_units import Cell, SharedUnits
from clipviz.session.topics.ablation import Preset
from clipviz.session.topics.heads import Description, HeadEffects, HeadFound, Summary
from clipviz.session.topics.images import Ranked
from clipviz.session.topics.labels import Label
from clipviz.session.topics.maps import Joint
from clipviz.session.topics.neurons import InUse
from clipviz.session.topics.readings import Listed, Reading
from clipviz.session.topics.tokens import TokenHead, TokenMaps
from clipviz.session.topics.workbench import Frame, Goal, Said, Workbench
from clipviz.values import Task
from clipviz.values.tables import Listing, Lookup, Maps, NamedArray

__all__ = [
    "Accuracy",
    "Atlas",
    "AtlasWords",
    "Attack",
    "Cell",
    "Code",
    "Cue",
    "Description",
    "Desk",
    "Edited",
    "Effects",
    "Estimate",
    "Familiarity",
    "Frame",
    "Goal",
    "Guides",
    "HeadEffects",
    "HeadFound",
    "Histogram",
    "Images",
    "InUse",
    "Joint",
    "Label",
    "LayerNeurons",
    "Listed",
    "Listing",
    "Lookup",
    "Maps",
    "NamedArray",
    "Outcome",
    "Percentiles",
    "Preset",
    "Ranked",
    "Reading",
    "Reconstruction",
    "Row",
    "Said",
    "SegmentationScore",
    "SharedUnits",
    "Source",
    "Studio",
    "Summary",
    "Task",
    "TokenHead",
    "TokenMaps",
    "TourStep",
    "Workbench",
]
