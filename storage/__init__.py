"""Rows and files: the only place where the web and the engine meet. No torch, no gradio."""
