"""OpenAI's Assistants API over the conversation core: assistants, threads, messages, runs, steps."""
