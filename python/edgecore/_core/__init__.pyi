"""The compiled core; one submodule per room. Stubs are written by hand and checked by a test."""

from edgecore._core import artifacts as artifacts
from edgecore._core import base as base
from edgecore._core import columns as columns
from edgecore._core import features as features
from edgecore._core import fs as fs
from edgecore._core import inference as inference
from edgecore._core import learning as learning
from edgecore._core import log as log
from edgecore._core import pipeline as pipeline
from edgecore._core import rows as rows
from edgecore._core import verdict as verdict
