"""The program for disaster day: ``python -m scriptorium.rescue`` needs a store and a manifest, nothing else."""
