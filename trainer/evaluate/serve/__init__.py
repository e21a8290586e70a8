"""A small HTTP endpoint in OpenAI's form, for trying a model: not for production."""
