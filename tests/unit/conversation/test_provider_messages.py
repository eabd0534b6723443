"""Which images go to a provider as an address."""

from __future__ import annotations

import pytest
from pydantic_ai.messages import ImageUrl, ModelRequest, UserPromptPart

from bichat.conversation.planner import PlannerError
from bichat.conversation.planners.provider import BASE_URLS, Endpoint
from bichat.conversation.planners.provider_messages import Sight, model_messages
from bichat.repository.records import Message, Part, Role


def _image(url):
    part = Part(kind="image", content={"url": url, "detail": "low"})
    return Message(tenant="t", conversation_id="c", role=Role.USER, parts=(part,))


def test_an_address_is_passed_on_to_those_who_take_it_and_never_fetched():
    url = "https://example.com/a.png"

    (request,) = model_messages([_image(url)], Sight(sees_images=True, takes_urls=True))

    assert isinstance(request, ModelRequest)
    (prompt,) = request.parts
    assert isinstance(prompt, UserPromptPart)
    (image,) = prompt.content
    assert isinstance(image, ImageUrl)
    assert (image.url, image.force_download) == (url, False)


@pytest.mark.parametrize("url", ["http://example.com/a.png", "HTTPS://example.com", "ftp://x/a.png", "/etc/passwd"])
def test_other_addresses_go_to_nobody(url):
    with pytest.raises(PlannerError, match="address"):
        model_messages([_image(url)], Sight(sees_images=True, takes_urls=True))


@pytest.mark.parametrize(
    "kind, base_url, expected",
    [
        ("openai", "", True),
        ("openai", BASE_URLS["openai"] + "/", True),
        ("openai", "http://127.0.0.1:8000/v1", False),
        ("anthropic", "", True),
        ("anthropic", "https://gateway.example.com", False),
        ("ollama", "", False),
    ],
)
def test_only_the_services_themselves_take_addresses(kind, base_url, expected):
    assert Endpoint(kind=kind, model="m", base_url=base_url).is_providers_own is expected
