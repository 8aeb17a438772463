"""What makes a decoder from configuration and files: lexicons, hot words, language models, and the search that fits them."""
