"""The HTTP server: OpenAI's endpoints over one `AsyncLLM`. Needs the extra `miaotui[serve]`."""
