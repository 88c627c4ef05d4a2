"""edgecore: offline-first machine learning for edge devices.

The public names below are loaded when first used, so that ``import edgecore`` costs a small board
nothing but this file.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.artifacts import ArtifactStore as ArtifactStore
    from edgecore.device.agent import Device as Device
    from edgecore.expressions import col as col
    from edgecore.expressions import where as where
    from edgecore.features import Agg as Agg
    from edgecore.features import AsOf as AsOf
    from edgecore.features import Constant as Constant
    from edgecore.features import Distinct as Distinct
    from edgecore.features import Ewma as Ewma
    from edgecore.features import FeatureStore as FeatureStore
    from edgecore.features import FeatureView as FeatureView
    from edgecore.features import Histogram as Histogram
    from edgecore.features import Last as Last
    from edgecore.features import MostFrequent as MostFrequent
    from edgecore.features import Ratio as Ratio
    from edgecore.features import Recency as Recency
    from edgecore.features import TimeIn as TimeIn
    from edgecore.features import Vector as Vector
    from edgecore.features import backfill as backfill
    from edgecore.inference import Model as Model
    from edgecore.log import Log as Log
    from edgecore.pipeline import LocalModel as LocalModel
    from edgecore.pipeline import Pipeline as Pipeline
    from edgecore.schema import Field as Field
    from edgecore.schema import Schema as Schema

__version__ = "0.1.0"

_HOMES = {
    "Agg": "edgecore.features",
    "ArtifactStore": "edgecore.artifacts",
    "AsOf": "edgecore.features",
    "Constant": "edgecore.features",
    "Device": "edgecore.device.agent",
    "Distinct": "edgecore.features",
    "Ewma": "edgecore.features",
    "FeatureStore": "edgecore.features",
    "FeatureView": "edgecore.features",
    "Field": "edgecore.schema",
    "Histogram": "edgecore.features",
    "Last": "edgecore.features",
    "LocalModel": "edgecore.pipeline",
    "Log": "edgecore.log",
    "Model": "edgecore.inference",
    "MostFrequent": "edgecore.features",
    "Pipeline": "edgecore.pipeline",
    "Ratio": "edgecore.features",
    "Recency": "edgecore.features",
    "Schema": "edgecore.schema",
    "TimeIn": "edgecore.features",
    "Vector": "edgecore.features",
    "backfill": "edgecore.features",
    "col": "edgecore.expressions",
    "where": "edgecore.expressions",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'edgecore' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
