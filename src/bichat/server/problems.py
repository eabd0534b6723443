"""Requests that cannot be carried out as they stand."""

from __future__ import annotations

from bichat.errors import NotFoundError, UserInputError


class FieldError(UserInputError):
    """A field of a request is not as it must be, or asks for what is not served: status 400.

    `param` names the field as OpenAI's errors do (`tools[0].type`), `wire_code` is their `code`, None where they have none.
    """

    def __init__(self, message: str, *, param: str | None = None, wire_code: str | None = "invalid_value") -> None:
        super().__init__(message, stage="request")
        self.param = param
        self.wire_code = wire_code


class MissingError(NotFoundError):
    """What a request names is not there, in the words of OpenAI's wire: status 404."""

    def __init__(self, message: str, *, param: str | None = None, wire_code: str | None = None) -> None:
        super().__init__(message, stage="request")
        self.param = param
        self.wire_code = wire_code
