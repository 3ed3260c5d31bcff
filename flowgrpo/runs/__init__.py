"""The bridge between the engine and storage: processes that turn queued rows into images and checkpoints."""
