"""`/v1/realtime`: a spoken conversation over a WebSocket, by OpenAI's events."""
