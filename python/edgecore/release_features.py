"""What a device asks of a release's features before it serves them, for whoever makes or signs one.

    check_features(bundle.objects, features=..., here=schema_of_the_devices)

:meth:`Bundle.manifest <edgecore.release.Bundle.manifest>` lists features without looking into the
objects; ``edgecore release create`` and ``edgecore release sign`` ask this of every draft, whoever
wrote it.
"""

from __future__ import annotations

from edgecore.errors import Corrupt, Incompatible
from edgecore.features import FeatureView
from edgecore.inference import Binding
from edgecore.release import JOINED, JOINED_FILE, joined_schemas
from edgecore.schema import Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def check_features(
    objects: Mapping[str, bytes], features: Iterable[bytes], here: Iterable[Schema] = ()
) -> None:
    """
    :param objects: ``view``, ``schema`` and ``binding`` of the release, as bytes, and ``joined``
        where the view reads other streams;
    :param features: the fingerprints that its bundle or manifest says it reads;
    :param here: schemas that devices have now. Where any is given, that of the view's stream must
        be among them, and give the binding the features that it was made for, as the release's own;
        of another stream that the view reads it may be the release's.
    :raises Incompatible: the binding reads a feature that is none of the view over the schema, or
        one that means something else here (it says which, and what differs), or the view is of
        another stream, or the schema of one that it joins is not in the release;
    :raises Corrupt: an object is malformed, or the binding reads others than `features`."""
    view = FeatureView.from_bytes(objects["view"])
    trained = Schema.from_bytes(objects["schema"])
    needed = [slot.feature for slot in Binding.from_bytes(objects["binding"]).slots]
    given = list(here)
    now = [schema for schema in given if schema.stream == view.source]
    if given and not now:
        streams = ", ".join(repr(schema.stream) for schema in given)
        raise Incompatible(
            f"view {view.name!r} reads stream {view.source!r}, the schema is of {streams}"
        )
    joined = joined_schemas(objects[JOINED]) if JOINED in objects else []
    if {one.stream for one in joined} != view.joins:
        raise Incompatible(f"{JOINED_FILE}: view {view.name!r} reads the streams "
                           f"{', '.join(sorted(view.joins)) or '(none)'} besides")  # fmt: skip
    others = {one.stream: one for one in (*joined, *given) if one.stream in view.joins}
    for schema, beside in ((trained, joined), *((one, [*others.values()]) for one in now)):
        view.require_same(trained, schema, needed, joined, beside)
        view.plans(schema, beside)
    if needed != list(features):
        raise Corrupt("the binding reads other features than it says; train again")


__all__ = ["check_features"]
