"""What the API server sends, as far as it is of interest here.

Fields that have no value are missing or null, depending on who wrote the object.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Conditions(_Shape):
    ready: bool | None = None
    terminating: bool | None = None


class TargetRef(_Shape):
    kind: str | None = None
    name: str | None = None


class SliceEndpoint(_Shape):
    addresses: tuple[str, ...]
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None


class Port(_Shape):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class Metadata(_Shape):
    name: str = ""
    resource_version: str


class EndpointSlice(_Shape):
    metadata: Metadata
    address_type: str
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[Port, ...] | None = None


class ListMetadata(_Shape):
    resource_version: str


class EndpointSliceList(_Shape):
    kind: Literal["EndpointSliceList"]
    metadata: ListMetadata
    items: tuple[EndpointSlice, ...] | None


class Changed(_Shape):
    type: Literal["ADDED", "MODIFIED"]
    object: EndpointSlice


class Deleted(_Shape):
    type: Literal["DELETED"]
    object: EndpointSlice


class Marked(_Shape):
    metadata: ListMetadata


class Bookmark(_Shape):
    """Nothing has happened up to this version."""

    type: Literal["BOOKMARK"]
    object: Marked


class Status(_Shape):
    code: int = 0
    message: str = ""


class Failure(_Shape):
    """The watch ends here, although the answer began with 200."""

    type: Literal["ERROR"]
    object: Status


Event = Changed | Deleted | Bookmark
EVENTS: TypeAdapter[Event | Failure] = TypeAdapter(
    Annotated[Changed | Deleted | Bookmark | Failure, Field(discriminator="type")]
)
