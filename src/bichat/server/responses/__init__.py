"""Responses and conversations of OpenAI's wire: a view of the conversation core."""
