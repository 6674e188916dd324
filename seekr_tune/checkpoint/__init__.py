"""What a run saves: by whom, in which pieces, and so that it appears whole or not at all."""
