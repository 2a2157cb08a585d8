"""From requests to tokens: KV pages, scheduling, the step loop, and the public face `LLM`."""
