"""Requests and answers of each route, as pydantic models: the server's OpenAPI schema is made of them."""
