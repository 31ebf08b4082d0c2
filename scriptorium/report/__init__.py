"""Results for people and programs: JSON documents, sizes and times in words, names as they may be shown."""
