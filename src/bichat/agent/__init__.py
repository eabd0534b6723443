"""What is plugged into the conversation core: the tools that its models call."""
