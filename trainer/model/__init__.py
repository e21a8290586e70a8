"""The model: one decoder for the GPT-2, LLaMA and GPT-NeoX families, its parts, and its Hugging Face form.

`config` names the choices, `decoder` builds from them, `init` fills the parameters, `size` counts them, `hf` reads and
writes Hugging Face folders. Nothing here knows of the training loop, of data or of checkpoints.
"""
