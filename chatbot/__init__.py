"""One turn: retrieve, prompt, generate, cite, or say "I don't know"; and what people thought of it."""
