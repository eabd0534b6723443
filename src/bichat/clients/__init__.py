"""Executors that drive other people's servers, through the official `openai` client."""

from __future__ import annotations

from bichat.clients.assistants import AssistantsClient
from bichat.clients.options import ClientOptions
from bichat.clients.responses import ResponsesClient

__all__ = ["AssistantsClient", "ClientOptions", "ResponsesClient"]
