"""Stores whose tool keeps a tree of files by itself: none yet."""
