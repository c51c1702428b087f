"""The Hugging Face hub, by its own client: names of files there, fetching them, publishing, and failures as errors."""
